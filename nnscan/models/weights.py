"""Weights that a training starts from: found by their content, read without running code, fitted to a network."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from nnscan.errors import DataError, Problem, ScanError

Weights = Mapping[str, Tensor]
"""Parameters and buffers by name."""

WRAPPERS = ("module.", "network.")
"""What stands before all names of a network that was wrapped: by DistributedDataParallel, by `FittedInput`."""

COUNTERS = "num_batches_tracked"
"""Counters of batch normalisation, which files from before torch 0.4.1 lack, some of torchvision's among them. They
decide nothing where `momentum` is set."""


def torch_folder() -> Path:
    """Return the folder in which torch keeps weights that it has downloaded."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def find(digest: str, folder: Path | None = None) -> Path:
    """Return the file with the SHA-256 `digest`: in `folder` one of that name, else any in torch's folder of weights.

    Raises
    ------
    DataError
        Where there is none.
    """
    if folder is not None and (folder / digest).is_file():
        return folder / digest
    kept = torch_folder()
    files = [path for path in kept.glob("*") if path.is_file()] if kept.is_dir() else []
    # torchvision's names hold the first 8 digits, so the right file is as a rule the first that is read.
    for path in sorted(files, key=lambda path: digest[:8] not in path.name):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return path
    looked = f"{folder} does not hold it, and none" if folder else "None"
    raise DataError(
        f"{looked} of the {len(files)} files in {kept} has the SHA-256 {digest}. Name the file of weights by its path"
        f" in the scan file, or copy it into {kept}."
    )


@lru_cache(maxsize=1)
def of_digest(digest: str, folder: Path | None = None) -> Weights:
    """Return the weights with that SHA-256, which `find` finds; the last ones stay in memory.

    Raises
    ------
    DataError
        Where they are nowhere, or damaged.
    """
    path = find(digest, folder)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"{path} is damaged: its SHA-256 is not {digest}. Remove it, then launch again.")
    return parse(content, path)


def parse(content: bytes, path: Path) -> Weights:
    """Return the weights in `content`, of the file `path`: safetensors, or what torch.save made of a state dict.

    Raises
    ------
    DataError
        Where it is neither; tells what to do. No code in it is run.
    """
    try:
        weights = _parsed(content)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path} holds more than tensors, and nnscan runs no code out of files. Load it where you trust it, and"
            " save its weights alone: torch.save(model.state_dict(), 'weights.pt')."
        ) from error
    except Exception as error:  # a torn or foreign file makes torch raise nearly anything
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} is damaged, or no file of weights: {reason or type(error).__name__}. Copy it anew; accepted is"
            " what torch.save(model.state_dict(), 'weights.pt') or safetensors writes."
        ) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"{path} holds {_kind(weights)}, no dict of tensors. Save that: {_remedy(weights)}.")
    return weights


def _parsed(content: bytes) -> object:
    if content[8:9] == b"{":  # safetensors: eight bytes of length, then JSON
        return safetensors.torch.load(content)
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            if broken := file.testzip():  # torch checks no sums
                raise ValueError(f"{broken} in it is damaged")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _kind(found: object) -> str:
    if not isinstance(found, dict):
        return f"a {type(found).__name__}"
    names = ", ".join(str(name) for name in list(found)[:5])
    return f"a dict of {names}"


def _remedy(found: object) -> str:
    """Return what to type, for a checkpoint of somebody's training loop that holds a state dict among other things."""
    inner = [name for name, value in found.items() if isinstance(value, dict)] if isinstance(found, dict) else []
    likely = next((name for name in inner if "model" in str(name) or "state" in str(name)), None)
    source = f"torch.load(file)[{likely!r}]" if likely else "model.state_dict()"
    return f"torch.save({source}, 'weights.pt')"


# ------------------------------------------------------------------------------------------------ fitting


def load_all_but_head(network: nn.Module, weights: Weights, what: str, *, head_too: bool = False) -> None:
    """Copy `weights` into `network` where names and shapes agree; only its last layer may be left as it is.

    With `head_too` not even that. Names that the network does not have are passed over: it may have been trained with
    extra outputs.

    Raises
    ------
    ScanError
        Where they are of another network.
    """
    own = network.state_dict()
    fitting = {name: value for name, value in _named_as(own, weights).items() if _fits(own.get(name), value)}
    head = None if head_too else head_of(network)
    lacking = [name for name in own if name not in fitting and not _is_of(head, name) and not name.endswith(COUNTERS)]
    if lacking:
        message = f"{what} lack {lacking[0]!r} (and {len(lacking) - 1} more): they are of another network."
        raise ScanError("weights", [Problem("model.weights", message)])
    network.load_state_dict(fitting, strict=False)


def start_from(start: str, network: nn.Module, folder: Path | None = None) -> tuple[str, ...]:
    """Give `network` the weights that `training.warm_start` says: "none", or "sha256:..." of a file.

    Returns the names that are not among them: those of a head for other classes.

    Raises
    ------
    DataError, ScanError
        Where they are nowhere here, do not read, or are of another network.
    """
    if start == "none":
        return ()
    return warm_start(network, of_digest(start.removeprefix("sha256:"), folder), f"the weights {start}")


def warm_start(network: nn.Module, weights: Weights, what: str) -> tuple[str, ...]:
    """Copy `weights` into `network`; return the names that were left as they are: the head's, for other classes.

    Raises
    ------
    ScanError
        Where a name or a shape differs, but for the number of classes.
    """
    own = network.state_dict()
    given, head = _named_as(own, weights), head_of(network)
    anew = [name for name in own if _is_of(head, name) and _differ_in_classes(own[name], given.get(name))]
    names = [name for name in {**own, **given} if name not in anew and not name.endswith(COUNTERS)]
    if unlike := [name for name in names if not _fits(own.get(name), given.get(name))]:
        first, more = unlike[0], f" (and {len(unlike) - 1} more)" if len(unlike) > 1 else ""
        message = (
            f"{what} are of another network: {first!r} is {_shape(given.get(first))} there and"
            f" {_shape(own.get(first))} here{more}. Start from a model of the same settings; only its classes may be"
            " others."
        )
        raise ScanError("weights", [Problem("training.warm_start", message)])
    network.load_state_dict({name: value for name, value in given.items() if name not in anew}, strict=False)
    return tuple(anew)


def head_of(network: nn.Module) -> str | None:
    """Return the path of the layer that gives the outputs, the last that has weights to multiply with; None without."""
    layers = [path for path, one in network.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else None


def _is_of(layer: str | None, name: str) -> bool:
    return name.rpartition(".")[0] == layer


def _named_as(own: Weights, weights: Weights) -> dict[str, Tensor]:
    """Return `weights` under the names that they have in `own`: either may be those of a wrapped network."""
    wanted, found = _wrapper(own), _wrapper(weights)
    return {wanted + name.removeprefix(found): value for name, value in weights.items()}


def _wrapper(weights: Weights) -> str:
    return next((one for one in WRAPPERS if weights and all(name.startswith(one) for name in weights)), "")


def _fits(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape


def _differ_in_classes(one: Tensor, other: Tensor | None) -> bool:
    return other is not None and one.shape[1:] == other.shape[1:] and one.shape[:1] != other.shape[:1]


def _shape(value: Tensor | None) -> str:
    return "missing" if value is None else str(tuple(value.shape))
