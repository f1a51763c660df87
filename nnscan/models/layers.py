"""The layers of a network, with what each gives and how many parameters it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Layer:
    """A module of a network that has no modules within, or parameters of its own."""

    name: str
    """As in `named_modules`; "" of a network that is a single layer."""

    kind: str
    """Name of its class."""

    output: str
    """Shape of what it gives for one example, "" where it was not called: "8x12x12"."""

    parameters: int
    """Numbers that it holds; 0 of those that a layer before it holds, too."""


def layers(network: nn.Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Return the layers of `network`, in the order in which it names them: their parameters add up to all of its.

    One black example is sent through it, in evaluation mode, to see the shapes.
    """
    named = [(name, one) for name, one in network.named_modules() if _is_layer(one)]
    outputs: dict[nn.Module, str] = {}
    hooks = [one.register_forward_hook(partial(_note, outputs)) for _, one in named]
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    counted: set[nn.Parameter] = set()
    return [Layer(name, type(one).__name__, outputs.get(one, ""), _count(one, counted)) for name, one in named]


def _is_layer(module: nn.Module) -> bool:
    return not any(module.children()) or any(True for _ in module.parameters(recurse=False))


def _note(outputs: dict[nn.Module, str], module: nn.Module, _: Any, output: Any) -> None:
    outputs[module] = _shape(output)


def _shape(output: Any) -> str:
    if isinstance(output, Tensor):
        return "x".join(map(str, output.shape[1:]))
    parts = output.values() if isinstance(output, Mapping) else output
    return ", ".join(filter(None, map(_shape, parts))) if isinstance(output, Mapping | list | tuple) else ""


def _count(module: nn.Module, counted: set[nn.Parameter]) -> int:
    """Return the numbers in the parameters of `module` that are not in `counted`, and count them."""
    new = [value for value in module.parameters(recurse=False) if value not in counted]
    counted.update(new)
    return sum(value.numel() for value in new)
