"""Checkpoints of unfinished trials: files `<trial key>.<writer>.<steps>.pt`, read without unpickling code.

Each writer has files of its own, so an attempt that was wrongly given up cannot spoil another's.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnscan.errors import StoreError
from nnscan.identity import NUMERICS
from nnscan.results.folder import remedy, write_atomically
from nnscan.training.group import ALONE, Group
from nnscan.training.loop import Row
from nnscan.training.state import RandomStates, TrainingState, Weights, begin, dropout_seed
from nnscan.training.trial_data import TrialData
from nnscan.trial import Trial

FORMAT = 1
"""Raised when the content of a checkpoint changes; others are passed over."""


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps, as it was saved."""

    path: Path
    rows: list[Row]
    """Metrics of the epochs so far, epoch 0 first."""

    content: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a folder holds of one trial."""

    checkpoint: Checkpoint | None
    """The one with most steps that reads and fits."""

    passed_over: tuple[str, ...]
    """Files with more steps that do not, each with the reason."""


def save(folder: Path, writer: str, state: TrainingState, rows: list[Row], *, fingerprint: str) -> Path:
    """Write `state` and `rows` for a later `load_newest`, remove this writer's older ones, and return the file.

    Of several ranks all call this, rank 0 writes, and what the others draw from and have counted is in it, too.

    Parameters
    ----------
    folder : Path
        The scan folder's `checkpoints`; made where it is missing.
    writer : str
        Name of the process that writes.
    rows : list
        Of all epochs so far.
    fingerprint : str
        Of data and code: a checkpoint made with others is not gone on from.

    Raises
    ------
    StoreError
        On every rank, where it cannot be written; older checkpoints are then still there.
    """
    path = folder / f"{state.trial.key}.{writer}.{state.steps}.pt"
    own, *others = _of_ranks(state)
    content = {"format": FORMAT, "numerics": NUMERICS, "fingerprint": fingerprint, "rows": rows, **_content(state)}
    refused = _write(path, {**content, **own, **({"others": others} if others else {})}) if not state.group.rank else ""
    if state.group.agree(bool(refused)):
        raise StoreError(
            f"The checkpoint {path} cannot be written: {refused or 'rank 0 says why.'}; the next"
            " launch goes on from the checkpoint before, or begins the trial again."
        )
    if not state.group.rank:
        _remove(older for older in folder.glob(f"{state.trial.key}.{writer}.*.pt") if older != path)
    return path


def _write(path: Path, content: dict[str, Any]) -> str:
    """Write `content` into `path`; return why that is refused and what to do, "" where it is not."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _packed(content))
    except OSError as error:
        return f"{error.strerror or error}. {remedy(error)}"
    return ""


def _packed(content: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_newest(folder: Path, key: str, *, fingerprint: str, group: Group = ALONE) -> Found:
    """Return the newest checkpoint of the trial `key`, whoever wrote it, that reads whole and fits `fingerprint`.

    Of several ranks, rank 0 looks and tells the others what it found: all go on from the same.
    """
    found = _newest(folder, key, fingerprint) if group.rank == 0 else Found(None, ())
    if group.size == 1:
        return found
    told = group.tell(_packed(found.checkpoint.content) if found.checkpoint else b"")
    if group.rank == 0 or not told:
        return found
    content = torch.load(io.BytesIO(told), map_location="cpu", weights_only=True)
    return Found(Checkpoint(folder, content["rows"], content), ())


def _newest(folder: Path, key: str, fingerprint: str) -> Found:
    passed_over: list[str] = []
    for path in sorted(_files(folder, key), key=_steps, reverse=True):
        try:
            return Found(_read(path, fingerprint), tuple(passed_over))
        except FileNotFoundError:
            continue  # its writer, or the trial's end, has just removed it
        except Exception as error:  # a torn or foreign file makes torch raise nearly anything
            passed_over.append(f"{path}: {' '.join(str(error).split())[:200]}")
    return Found(None, tuple(passed_over))


def restore(
    checkpoint: Checkpoint, trial: Trial, data: TrialData, group: Group = ALONE, *, weights: Path | None = None
) -> TrainingState:
    """Return the state that was saved: training goes on from it as if it had never stopped.

    With another number of ranks than saved it, what they draw from then on is fresh, and all else as it was.
    """
    content = checkpoint.content
    state = begin(trial, data, group, weights=weights)
    state.model.load_state_dict(content["model"])
    for name, value in _unsaved_buffers(state.model).items():
        value.copy_(content["buffers"][name])
    state.optimizer.load_state_dict(content["optimizer"])
    state.epoch, state.step = content["epoch"], content["step"]
    state.augmentation.set_state(content["augmentation"])
    state.sums.examples, state.sums.seconds = content["examples"], content["seconds"]
    state.best = content["best"]
    if state.step_values:
        state.step_values.epochs = list(content["steps"])
    _restore_rank(state, [content, *content.get("others", [])])
    return state


def _restore_rank(state: TrainingState, ranks: list[dict[str, Any]]) -> None:
    """Give this rank what the rank of its number had; rank 0 has counted for all where there were more or fewer."""
    rank, size = state.group.rank, state.group.size
    counted = ranks[rank : rank + 1] if len(ranks) == size else ranks if rank == 0 else []
    for one in counted:
        state.sums.loss.add_(one["loss"].to(state.sums.loss.device))
        state.sums.hits.add_(one["hits"].to(state.sums.hits.device))
        if state.step_values:
            state.step_values.running.add_(one["running_steps"].to(state.step_values.running.device))
    if ranks[0]["random"] is None:
        return  # between two epochs: every epoch seeds the generators
    own = RandomStates(**ranks[rank]["random"]) if rank < len(ranks) else None
    state.random = own or RandomStates.seeded(dropout_seed(state), state.sums.loss.device)


def remove(folder: Path, key: str) -> None:
    """Remove all checkpoints of the trial `key`, whoever wrote them, also half-written ones: it has ended."""
    _remove([*_files(folder, key), *_named(folder, f".{key}.")])


def _remove(files: Iterable[Path]) -> None:
    for path in files:
        path.unlink(missing_ok=True)


def _of_ranks(state: TrainingState) -> list[dict[str, Any]]:
    """Return what each rank has for itself: states of generators within an epoch, and sums over its own examples."""
    group = state.group
    summed = {"loss": group.stack(state.sums.loss), "hits": group.stack(state.sums.hits)}
    if state.step_values:
        summed["running_steps"] = group.stack(state.step_values.running)
    randoms = _randoms_of_ranks(state.random, group)
    return [
        {**{name: values[rank] for name, values in summed.items()}, "random": asdict(random) if random else None}
        for rank, random in enumerate(randoms)
    ]


def _randoms_of_ranks(random: RandomStates | None, group: Group) -> list[RandomStates | None]:
    if random is None or group.size == 1:
        return [random] * group.size
    line = torch.tensor(list(f"{random.to_json()}\n".encode()), dtype=torch.uint8)
    return [RandomStates.from_json(text) for text in bytes(group.gather(line).tolist()).decode().splitlines()]


def _content(state: TrainingState) -> dict[str, Any]:
    best: Weights | None = state.best
    return {
        "model": _own(state.model.state_dict()),
        "buffers": _own(_unsaved_buffers(state.model)),
        "optimizer": _own(state.optimizer.state_dict()),
        "epoch": state.epoch,
        "step": state.step,
        "augmentation": state.augmentation.get_state(),
        "examples": state.sums.examples,
        "seconds": state.sums.seconds,
        "best": best,
        **({"steps": state.step_values.epochs} if state.step_values else {}),
    }


def _own(value: Any) -> Any:
    """Return `value` with a copy of each tensor that is part of a larger one: torch would save all of that."""
    if isinstance(value, torch.Tensor):
        return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value
    if isinstance(value, Mapping):
        return {name: _own(item) for name, item in value.items()}
    return value


def _unsaved_buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that `state_dict` leaves out: a training that goes on needs them too."""
    saved = model.state_dict()
    return {name: value for name, value in model.named_buffers() if name not in saved}


def _read(path: Path, fingerprint: str) -> Checkpoint:
    with zipfile.ZipFile(path) as file:
        # torch checks no sums when it reads: a flipped bit would go on as a weight.
        if broken := file.testzip():
            raise ValueError(f"{broken} in it is damaged")
    content = torch.load(path, map_location="cpu", weights_only=True)
    made_with = {"format": content["format"], "numerics": content["numerics"], "fingerprint": content["fingerprint"]}
    wanted = {"format": FORMAT, "numerics": NUMERICS, "fingerprint": fingerprint}
    if made_with != wanted:
        raise ValueError(f"made with {made_with}, now it is {wanted}")
    return Checkpoint(path, content["rows"], content)


def _files(folder: Path, key: str) -> Iterator[Path]:
    return (path for path in _named(folder, f"{key}.") if path.suffix == ".pt")


def _named(folder: Path, start: str) -> Iterator[Path]:
    """Yield the files whose names start so: `glob` would compile a pattern for every trial, half a millisecond each."""
    with suppress(OSError):  # whoever saves one there says what is wrong
        yield from (path for path in folder.iterdir() if path.name.startswith(start))


def _steps(path: Path) -> int:
    """Return the steps in a file's name; -1 where it has none."""
    steps = path.name.split(".")[-2]
    return int(steps) if steps.isdecimal() else -1
