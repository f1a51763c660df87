"""Checkpoints of unfinished trials: files `<trial key>.<writer>.<steps>.pt`, read without unpickling code.

Each writer has files of its own, so an attempt that was wrongly given up cannot spoil another's.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnscan.errors import StoreError
from nnscan.identity import NUMERICS
from nnscan.results.folder import remedy, write_atomically
from nnscan.training.loop import Row
from nnscan.training.state import RandomStates, TrainingState, Weights, begin
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
        Where it cannot be written; older checkpoints are then still there.
    """
    path = folder / f"{state.trial.key}.{writer}.{state.steps}.pt"
    content = {"format": FORMAT, "numerics": NUMERICS, "fingerprint": fingerprint, "rows": rows, **_content(state)}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    except OSError as error:
        raise StoreError(
            f"The checkpoint {path} cannot be written: {error.strerror or error}. {remedy(error)}; the next"
            " launch goes on from the checkpoint before, or begins the trial again."
        ) from error
    for older in folder.glob(f"{state.trial.key}.{writer}.*.pt"):
        if older != path:
            older.unlink(missing_ok=True)
    return path


def load_newest(folder: Path, key: str, *, fingerprint: str) -> Found:
    """Return the newest checkpoint of the trial `key`, whoever wrote it, that reads whole and fits `fingerprint`."""
    passed_over: list[str] = []
    for path in sorted(_files(folder, key), key=_steps, reverse=True):
        try:
            return Found(_read(path, fingerprint), tuple(passed_over))
        except FileNotFoundError:
            continue  # its writer, or the trial's end, has just removed it
        except Exception as error:  # a torn or foreign file makes torch raise nearly anything
            passed_over.append(f"{path}: {' '.join(str(error).split())[:200]}")
    return Found(None, tuple(passed_over))


def restore(checkpoint: Checkpoint, trial: Trial, data: TrialData) -> TrainingState:
    """Return the state that was saved: training goes on from it as if it had never stopped."""
    content = checkpoint.content
    state = begin(trial, data)
    state.model.load_state_dict(content["model"])
    for name, value in _unsaved_buffers(state.model).items():
        value.copy_(content["buffers"][name])
    state.optimizer.load_state_dict(content["optimizer"])
    state.epoch, state.step = content["epoch"], content["step"]
    state.augmentation.set_state(content["augmentation"])
    state.sums.loss.copy_(content["loss"])
    state.sums.hits.copy_(content["hits"])
    state.sums.examples, state.sums.seconds = content["examples"], content["seconds"]
    state.random = RandomStates(**content["random"]) if content["random"] else None
    state.best = content["best"]
    return state


def remove(folder: Path, key: str) -> None:
    """Remove all checkpoints of the trial `key`, whoever wrote them: it has ended."""
    for path in _files(folder, key):
        path.unlink(missing_ok=True)


def _content(state: TrainingState) -> dict[str, Any]:
    best: Weights | None = state.best
    return {
        "model": state.model.state_dict(),
        "buffers": _unsaved_buffers(state.model),
        "optimizer": state.optimizer.state_dict(),
        "epoch": state.epoch,
        "step": state.step,
        "augmentation": state.augmentation.get_state(),
        "loss": state.sums.loss,
        "hits": state.sums.hits,
        "examples": state.sums.examples,
        "seconds": state.sums.seconds,
        "random": asdict(state.random) if state.random else None,
        "best": best,
    }


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
    return folder.glob(f"{key}.*.pt")


def _steps(path: Path) -> int:
    """Return the steps in a file's name; -1 where it has none."""
    steps = path.name.split(".")[-2]
    return int(steps) if steps.isdecimal() else -1
