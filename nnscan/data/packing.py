"""Several inputs an example, packed into one row: so they are stored, shuffled and normalised as one tensor is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Shapes = tuple[tuple[int, ...], ...]
"""Of each input the shape of one example."""

InputShape = tuple[int, ...] | Shapes
"""What a network takes: one input of a shape, or several."""


def pack(inputs: Sequence[Tensor]) -> Tensor:
    """Return (N, features) float32: the inputs (N, ...) of each example one behind the other; uint8 as [0, 1]."""
    return torch.cat([_features(values).flatten(1) for values in inputs], dim=1)


def unpack(packed: Tensor, shapes: Shapes) -> list[Tensor]:
    """Return the inputs, (N, *shape) each, as views of what `pack` gave."""
    parts = torch.split(packed, [math.prod(shape) for shape in shapes], dim=1)
    return [part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def several(shape: InputShape) -> Shapes:
    """Return the shapes of several inputs; none where `shape` is that of one.

    Examples
    --------
    >>> several(((1, 8, 8), (3,))), several((1, 8, 8))
    (((1, 8, 8), (3,)), ())
    """
    return tuple(one for one in shape if isinstance(one, tuple))


def stored_shape(shape: InputShape) -> tuple[int, ...]:
    """Return the shape of an example as it is stored.

    Examples
    --------
    >>> stored_shape(((1, 8, 8), (3,))), stored_shape((1, 8, 8))
    ((67,), (1, 8, 8))
    """
    shapes = several(shape)
    return (sum(map(math.prod, shapes)),) if shapes else tuple(one for one in shape if isinstance(one, int))


def _features(values: Tensor) -> Tensor:
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()
