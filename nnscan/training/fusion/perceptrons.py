"""Multilayer perceptrons computed together: a layer of all networks is one batched product, its gradient another.

Written by hand where autograd would cost more than the arithmetic, and in memory that is kept from step to step. The
operations are those that the networks would do alone, in the same order: on the CPU the same bits come out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from nnscan.models.linear import Linear
from nnscan.models.products import linear_each, multiply_each
from nnscan.tasks.outputs import Outputs
from nnscan.training.fusion.stack import Stack

aten = torch.ops.aten

DIRECT_ELEMENTS = 2**14
"""From so many weights on a gradient is written into the rows themselves. These do not follow each other, so torch then
does one network at a time: slower for a small one (64 to 32 units, 16 networks: 37 us, and with a copy 26), and for a
large one faster than the copy (784 to 64, 4 networks: 262 us, and 273)."""


class Layer(Protocol):
    """One module of all networks. `rows` are a slice of the stack; tensors are (k, n, features)."""

    def forward(self, rows: slice, inputs: Tensor) -> Tensor:
        """Return the outputs in training, and keep what `backward` needs."""
        ...

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the inputs, given that of the outputs; write that of the parameters."""
        ...

    def evaluate(self, rows: slice, inputs: Tensor) -> Tensor:
        """Return the outputs in evaluation mode."""
        ...


@dataclass
class Memory:
    """Memory that is used again: a new tensor a step costs more than a small network does (page faults).

    All shapes share one piece: as trials of a group end, its tensors take every size up to the largest.
    """

    piece: Tensor = field(default_factory=lambda: torch.empty(0))
    views: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def of(self, like: Tensor, *shape: int) -> Tensor:
        """Return memory of this shape, until the next call."""
        if shape not in self.views:
            self._add(like, shape)
        return self.views[shape]

    def _add(self, like: Tensor, shape: tuple[int, ...]) -> None:
        count = math.prod(shape)
        if len(self.piece) < count:
            self.piece = like.new_empty(count)
            self.views.clear()
        self.views[shape] = self.piece[:count].view(shape)


@dataclass(frozen=True)
class Library:
    """What takes the products of layers: the bits are its own."""

    linear: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """Returns `out`, (k, n, o), of inputs (k, n, i), weight (k, o, i), bias (k, o) and `out`."""
    multiply: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Returns `out`, (k, m, n), of left (k, m, c), right (k, c, n) and `out`."""


TORCH = Library(
    linear=lambda inputs, weight, bias, out: torch.baddbmm(bias[:, None], inputs, weight.mT, out=out),
    multiply=lambda left, right, out: torch.bmm(left, right, out=out),
)
LIBRARIES = {nn.Linear: TORCH, Linear: Library(linear_each, multiply_each)}


@dataclass
class Dense:
    """A linear layer."""

    weight: Tensor
    """(rows, outputs, inputs)"""
    bias: Tensor
    """(rows, outputs)"""
    weight_gradient: Tensor
    bias_gradient: Tensor
    library: Library
    """That of the layer alone."""
    is_first: bool = False
    """Whether nobody asks for the gradient of its inputs."""
    rows: slice = field(init=False)
    inputs: Tensor = field(init=False)
    outputs: Memory = field(default_factory=Memory)
    gradients: Memory = field(default_factory=Memory)
    products: Memory = field(default_factory=Memory)

    def forward(self, rows: slice, inputs: Tensor) -> Tensor:
        """Return inputs x weight + bias."""
        self.rows, self.inputs = rows, inputs
        return self._outputs(rows, inputs, self.outputs)

    def backward(self, gradient: Tensor) -> Tensor:
        """Return gradient x weight."""
        self._write_weight_gradient(gradient)
        torch.sum(gradient, 1, out=self.bias_gradient[self.rows])
        if self.is_first:
            return gradient
        out = self.gradients.of(gradient, *self.inputs.shape)
        return self.library.multiply(gradient, self.weight[self.rows], out)

    def evaluate(self, rows: slice, inputs: Tensor) -> Tensor:
        """Return inputs x weight + bias."""
        return self._outputs(rows, inputs, Memory())

    def _outputs(self, rows: slice, inputs: Tensor, memory: Memory) -> Tensor:
        out = memory.of(inputs, *inputs.shape[:2], self.weight.shape[1])
        return self.library.linear(inputs, self.weight[rows], self.bias[rows], out)

    def _write_weight_gradient(self, gradient: Tensor) -> None:
        rows = self.weight_gradient[self.rows]
        is_small = rows[0].numel() < DIRECT_ELEMENTS
        out = self.products.of(gradient, *rows.shape) if is_small else rows
        found = self.library.multiply(gradient.mT, self.inputs, out)
        if is_small:
            rows.copy_(found)


@dataclass
class Activation:
    """An activation that works on each value alone."""

    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor, Tensor, Tensor], Tensor]
    """Returns the gradient of the inputs, given that of the outputs, the inputs and the outputs."""
    inputs: Tensor = field(init=False)
    outputs: Tensor = field(init=False)

    def forward(self, rows: slice, inputs: Tensor) -> Tensor:  # noqa: ARG002
        """Return the function of the inputs."""
        self.inputs, self.outputs = inputs, self.function(inputs)
        return self.outputs

    def backward(self, gradient: Tensor) -> Tensor:
        """Return gradient x derivative."""
        return self.derivative(gradient, self.inputs, self.outputs)

    def evaluate(self, rows: slice, inputs: Tensor) -> Tensor:  # noqa: ARG002
        """Return the function of the inputs."""
        return self.function(inputs)


def _relu_backward(gradient: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ARG001
    return aten.threshold_backward.grad_input(gradient, outputs, 0, grad_input=gradient)  # type: ignore[no-any-return]


def _sigmoid_backward(gradient: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ARG001
    return aten.sigmoid_backward(gradient, outputs)  # type: ignore[no-any-return]


def _tanh_backward(gradient: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ARG001
    return aten.tanh_backward(gradient, outputs)  # type: ignore[no-any-return]


def _gelu_backward(gradient: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:  # noqa: ARG001
    return aten.gelu_backward(gradient, inputs)  # type: ignore[no-any-return]


ACTIVATIONS: dict[type[nn.Module], tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    nn.ReLU: (Tensor.relu_, _relu_backward),
    nn.Tanh: (Tensor.tanh_, _tanh_backward),
    nn.Sigmoid: (Tensor.sigmoid_, _sigmoid_backward),
    nn.GELU: (nn.functional.gelu, _gelu_backward),
}
"""What each computes, and the gradient that autograd would take."""


@dataclass
class Dropout:
    """Dropout with a rate and a generator for each network: the masks are those that it would draw alone."""

    rates: list[float]
    """Of each row."""
    generators: Sequence[torch.Generator]
    factors: Tensor = field(init=False)
    memory: Memory = field(default_factory=Memory)

    def forward(self, rows: slice, inputs: Tensor) -> Tensor:
        """Return the inputs, a share of them zero and the others larger by as much."""
        self.factors = self.memory.of(inputs, *inputs.shape)
        for factors, row in zip(self.factors, range(rows.start, rows.stop), strict=True):
            keep = 1 - self.rates[row]
            factors.bernoulli_(keep, generator=self.generators[row])
            if keep:
                factors.div_(keep)
        return inputs * self.factors

    def backward(self, gradient: Tensor) -> Tensor:
        """Return the gradient of what was not dropped."""
        return gradient.mul_(self.factors)

    def evaluate(self, rows: slice, inputs: Tensor) -> Tensor:  # noqa: ARG002
        """Return the inputs."""
        return inputs


@dataclass(frozen=True)
class Perceptrons:
    """The networks of a stack, where they are chains of dense layers, activations and dropout: a `StackedNetwork`."""

    layers: tuple[Layer, ...]
    dropouts: tuple[tuple[Dropout, str], ...]
    """With the name of the module that says the rate."""

    @classmethod
    def of(cls, model: nn.Module, stack: Stack) -> Perceptrons | None:
        """Return the networks like `model` in the rows of `stack`; None where they are no such chains."""
        if type(model) is not nn.Sequential or len(model) < 2 or not _flattens(model[0]):
            return None
        # A module may stand in two places: such an activation is computed in both.
        named = [(name, one) for name, one in model.named_modules(remove_duplicate=False) if name and "." not in name]
        layers = [_layer(name, module, stack) for name, module in named[1:]]
        known = tuple(layer for layer in layers if layer is not None)
        if len(known) < len(layers) or not isinstance(known[0], Dense) or _overwrites(known):
            return None
        known[0].is_first = True
        rated = zip(known, (name for name, _ in named[1:]), strict=True)
        return cls(known, tuple((layer, name) for layer, name in rated if isinstance(layer, Dropout)))

    def admit(self, model: nn.Module, row: int) -> None:
        """Take the rates of `model`, which lies in a row now."""
        for dropout, name in self.dropouts:
            dropout.rates[row] = float(model.get_submodule(name).p)  # type: ignore[arg-type]

    def forward(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return the outputs, (k, n, classes)."""
        outputs = inputs.flatten(2)
        for layer in self.layers:
            outputs = layer.forward(rows, outputs)
        return outputs

    def backward(self, gradients: Outputs) -> None:
        """Write the gradients of the parameters; what `gradients` holds is overwritten."""
        assert isinstance(gradients, Tensor)
        for layer in reversed(self.layers):
            gradients = layer.backward(gradients)

    def evaluate(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return the outputs in evaluation mode."""
        outputs = inputs.flatten(2)
        for layer in self.layers:
            outputs = layer.evaluate(rows, outputs)
        return outputs


def _flattens(module: nn.Module) -> bool:
    return type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1)


def _overwrites(layers: Sequence[Layer]) -> bool:
    """Return whether an activation follows another: written in place, it would take the outputs that one needs."""
    return any(isinstance(one, Activation) and isinstance(other, Activation) for one, other in pairwise(layers))


def _layer(name: str, module: nn.Module, stack: Stack) -> Layer | None:
    kind = type(module)
    weight, bias = f"{name}.weight", f"{name}.bias"
    if kind in LIBRARIES and {weight, bias} <= stack.parameters.keys():
        values, gradients = stack.parameters, stack.parameter_gradients
        return Dense(values[weight], values[bias], gradients[weight], gradients[bias], LIBRARIES[kind])
    if kind is nn.Dropout:
        return Dropout([0.0] * len(stack.values), stack.generators)
    if kind in ACTIVATIONS and getattr(module, "approximate", "none") == "none":
        return Activation(*ACTIVATIONS[kind])
    return None
