"""What a network gives for a batch: a tensor, or several, in a tuple or a dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Outputs = Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]
"""Each tensor has a row an example, (N, ...)."""


def tensors(outputs: Outputs) -> list[Tensor]:
    """Return the tensors of `outputs`, in order.

    Raises
    ------
    TypeError
        Where they are no outputs.
    """
    found = [outputs] if isinstance(outputs, Tensor) else _members(outputs)
    if not found or not all(isinstance(one, Tensor) for one in found):
        held = f" of {', '.join(type(one).__name__ for one in found)}" if found else ""
        raise TypeError(
            f"the network gives {type(outputs).__name__}{held}; it has to give a tensor, or several in a tuple or a"
            " dict, each with a row an example."
        )
    return found


def _members(outputs: Any) -> list[Any]:
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    return list(outputs) if isinstance(outputs, tuple | list) else []


def filled(outputs: Outputs, values: Sequence[Tensor]) -> Outputs:
    """Return `values` arranged as the tensors of `outputs` are."""
    if isinstance(outputs, Tensor):
        (value,) = values
        return value
    return dict(zip(outputs, values, strict=True)) if isinstance(outputs, Mapping) else tuple(values)


def changed(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    """Return `outputs` with `change` applied to each tensor."""
    return filled(outputs, [change(one) for one in tensors(outputs)])


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Return the outputs of several batches, arranged alike, as those of one."""
    columns = zip(*map(tensors, parts), strict=True)
    return filled(parts[0], [torch.cat(column) for column in columns])


def at_least_float32(values: Tensor) -> Tensor:
    """Return `values` in a type that a softmax can be summed in: bfloat16 holds two to three digits, too few."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
