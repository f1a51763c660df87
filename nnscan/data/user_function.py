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

from nnscan.data.packing import Shapes, pack
from nnscan.dotted import load_function
from nnscan.errors import DataError
from nnscan.identity import Purpose, seed32
from nnscan.tasks.classification import first_column

PARTS = ("train", "test", "classes")


@dataclass(frozen=True)
class Returned:
    """What a user's function returned, checked."""

    train: tuple[Tensor, Tensor]
    """Inputs (N, ...), uint8 images or float32, and labels (N,) int64 or targets (N, T), the first the class."""

    test: tuple[Tensor, Tensor] | None
    classes: tuple[str, ...]
    input_shapes: Shapes = ()
    """Of several inputs, which are packed into one, the shape of each."""

    @property
    def fingerprint(self) -> str:
        """BLAKE2b over all values, 32 hex digits."""
        shapes = repr(self.input_shapes) if self.input_shapes else ""
        content = hashlib.blake2b(f"{self.classes!r}{shapes}".encode(), digest_size=16)
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
    train = _part(name, "train", returned["train"])
    test = None if returned.get("test") is None else _part(name, "test", returned["test"])
    if test is not None:
        _check_alike(name, train, test)
    shapes = tuple(tuple(values.shape[1:]) for values in train.inputs)
    return Returned(
        train.packed,
        test.packed if test else None,
        _classes(name, returned.get("classes"), [one.labels for one in (train, test) if one]),
        shapes if len(shapes) > 1 else (),
    )


@dataclass(frozen=True)
class _Part:
    """The training or the test set."""

    inputs: list[Tensor]
    targets: Tensor

    @property
    def labels(self) -> Tensor:
        return first_column(self.targets)

    @property
    def packed(self) -> tuple[Tensor, Tensor]:
        return (self.inputs[0] if len(self.inputs) == 1 else pack(self.inputs)), self.targets


def _check_alike(name: str, train: _Part, test: _Part) -> None:
    """Raise DataError where an example of the test set is unlike one of the training set."""
    if [_example(values) for values in test.inputs] != [_example(values) for values in train.inputs]:
        found, wanted = (", ".join(map(_described, part.inputs)) for part in (test, train))
        raise DataError(
            f"{name} returned test inputs of {found}, but training inputs of {wanted}."
            " An example has to have the same shape and type in both."
        )
    if _example(test.targets) != _example(train.targets):
        raise DataError(
            f"{name} returned as test y {_described(test.targets)}, but as training y {_described(train.targets)}."
            " An example has to have as many targets, of the same type, in both."
        )


def _example(values: Tensor) -> tuple[tuple[int, ...], torch.dtype]:
    return tuple(values.shape[1:]), values.dtype


def _part(name: str, part: str, pair: Any) -> _Part:
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise DataError(f"{name} returned as {part!r} {type(pair).__name__}; it has to be a pair (x, y).")
    given = pair[0] if _is_several(pair[0]) else (pair[0],)
    names = [f"{name}: {part} x" + (f"[{place}]" if len(given) > 1 else "") for place in range(len(given))]
    inputs = [_tensor(what, values) for what, values in zip(names, given, strict=True)]
    targets = _targets(f"{name}: {part} y", _tensor(f"{name}: {part} y", pair[1]))
    for values in inputs:
        if len(values) != len(targets) or not len(targets):
            raise DataError(
                f"{name} returned as {part!r} {len(values)} inputs and {len(targets)} labels; one each is needed."
            )
    return _Part([_inputs(what, values) for what, values in zip(names, inputs, strict=True)], targets)


def _is_several(values: Any) -> bool:
    """Return whether an x holds several inputs: a tuple of arrays."""
    return isinstance(values, tuple) and bool(values) and all(hasattr(one, "shape") for one in values)


def _tensor(what: str, values: Any) -> Tensor:
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} is no array of numbers: {error}. Return a NumPy array or a tensor.") from error
    if not tensor.dim() or tensor.is_complex():
        raise DataError(f"{what} is {_described(tensor)}; an array of real numbers is needed.")
    return tensor.detach().cpu()


def _targets(what: str, targets: Tensor) -> Tensor:
    """Return y as it is stored: labels (N,) int64, or targets (N, T) int64 or float32 whose first is the label."""
    several = targets.dim() == 2 and targets.shape[1] > 0
    if (not several and targets.dim() != 1) or targets.dtype == torch.bool or (not several and _is_float(targets)):
        raise DataError(
            f"{what} is {_described(targets)}; labels are whole numbers of shape (N,): 0, 1, ... Several targets an"
            " example are numbers of shape (N, T), the first of them the label."
        )
    labels = targets[:, 0] if several else targets
    if _is_float(labels) and not (torch.isfinite(labels) & (labels == labels.round())).all():
        raise DataError(
            f"{what} holds fractions, NaN or infinity in its first column, which is that of the labels: 0, 1, ..."
        )
    if len(labels) and int(labels.min()) < 0:
        raise DataError(f"{what} holds {int(labels.min())}; labels count from 0.")
    return targets.float() if _is_float(targets) else targets.long()


def _is_float(values: Tensor) -> bool:
    return values.is_floating_point()


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


def _classes(name: str, names: Any, labels: Sequence[Tensor]) -> tuple[str, ...]:
    needed = 1 + max(int(one.max()) for one in labels)
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
