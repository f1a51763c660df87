"""Data that a user's function returns, named in the scan file as "package.module:function"."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnscan.dotted import load_function
from nnscan.errors import DataError
from nnscan.identity import Purpose, seed32

PARTS = ("train", "test", "classes")


@dataclass(frozen=True)
class Returned:
    """What a user's function returned, checked."""

    train: tuple[Tensor, Tensor]
    """Inputs (N, ...), uint8 images or float32, and labels (N,) int64."""

    test: tuple[Tensor, Tensor] | None
    classes: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """BLAKE2b over all values, 32 hex digits."""
        content = hashlib.blake2b(repr(self.classes).encode(), digest_size=16)
        for tensor in (*self.train, *(self.test or ())):
            content.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.contiguous().numpy().data)
        return content.hexdigest()


def offers(name: str, *, seed: int, replicate: int, root: Path) -> dict[str, Any]:
    """Return those of nnscan's own arguments that the signature of the function `name` names: `seed`, `root`.

    The seed is that of the data draw of (seed, replicate), so each replicate may draw its own data.
    """
    named = signature(load_function(name)).parameters
    values = {"seed": seed32(seed, Purpose.DATA, replicate=replicate), "root": root}
    return {key: value for key, value in values.items() if key in named}


def call(name: str, arguments: Mapping[str, Any]) -> Returned:
    """Return what the function `name` makes of `arguments`.

    Raises
    ------
    DataError
        Where it returns something else than data; with what was found and what is accepted.
    """
    return check(name, load_function(name)(**arguments))


def check(name: str, returned: Any) -> Returned:
    """Return what the function `name` returned as tensors; raise DataError where it is no data."""
    if not isinstance(returned, Mapping) or "train" not in returned or not set(returned) <= set(PARTS):
        found = f"a dict with {sorted(returned)}" if isinstance(returned, Mapping) else type(returned).__name__
        raise DataError(
            f'{name} returned {found}. It has to return {{"train": (x, y)}}, and may add "test": (x, y) and "classes":'
            " [names]."
        )
    train = _pair(name, "train", returned["train"])
    test = None if returned.get("test") is None else _pair(name, "test", returned["test"])
    if test is not None and (test[0].shape[1:] != train[0].shape[1:] or test[0].dtype != train[0].dtype):
        raise DataError(
            f"{name} returned test inputs of {_described(test[0])}, but training inputs of {_described(train[0])}."
            " An example has to have the same shape and type in both."
        )
    return Returned(train, test, _classes(name, returned.get("classes"), train[1], test))


def _pair(name: str, part: str, pair: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise DataError(f"{name} returned as {part!r} {type(pair).__name__}; it has to be a pair (x, y).")
    inputs, labels = (_tensor(f"{name}: {part} {axis}", values) for axis, values in zip("xy", pair, strict=True))
    _check_labels(f"{name}: {part} y", labels)
    if len(inputs) != len(labels) or not len(labels):
        raise DataError(
            f"{name} returned as {part!r} {len(inputs)} inputs and {len(labels)} labels; one each is needed."
        )
    return _inputs(f"{name}: {part} x", inputs), labels.long()


def _tensor(what: str, values: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} is no array of numbers: {error}. Return a NumPy array or a tensor.") from error
    if not tensor.dim() or tensor.is_complex():
        raise DataError(f"{what} is {_described(tensor)}; an array of real numbers is needed.")
    return tensor.detach().cpu()


def _check_labels(what: str, labels: Tensor) -> None:
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise DataError(f"{what} is {_described(labels)}; labels are whole numbers of shape (N,): 0, 1, ...")
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"{what} holds {int(labels.min())}; labels count from 0.")


def _inputs(what: str, inputs: Tensor) -> Tensor:
    """Return inputs as they are stored: images uint8 (N, C, H, W), everything else float32."""
    if inputs.dim() < 2:
        raise DataError(f"{what} is {_described(inputs)}; one row an example is needed: (N, features) or (N, C, H, W).")
    if inputs.dtype == torch.uint8:
        _check_images(what, inputs)
        return inputs.contiguous()
    inputs = inputs.float().contiguous()
    finite = torch.isfinite(inputs).flatten(1).all(1)
    if not finite.all():
        raise DataError(
            f"{what} holds NaN or infinity in {int((~finite).sum())} of {len(inputs)} examples, first in number"
            f" {int((~finite).nonzero()[0])}. Leave them out or fill them."
        )
    return inputs


def _check_images(what: str, images: Tensor) -> None:
    if images.dim() != 4:
        raise DataError(
            f"{what} is {_described(images)}; uint8 means images, (N, C, H, W). Give grey images a channel,"
            " x[:, None], or return features as float32."
        )
    if images.shape[3] <= 4 < images.shape[1]:
        raise DataError(
            f"{what} is {_described(images)}, with the channels last. Return x.transpose(0, 3, 1, 2), (N, C, H, W)."
        )


def _classes(name: str, names: Any, labels: Tensor, test: tuple[Tensor, Tensor] | None) -> tuple[str, ...]:
    needed = 1 + max(int(labels.max()), -1 if test is None else int(test[1].max()))
    classes = tuple(str(number) for number in range(needed)) if names is None else tuple(map(str, names))
    if len(classes) < needed:
        raise DataError(
            f"{name} returned {len(classes)} classes, but labels up to {needed - 1}. Name {needed} classes."
        )
    if len(classes) < 2:
        raise DataError(f"{name} returned labels of one class alone; two are needed.")
    return classes


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
