"""Any networks computed together, by `torch.func`: slower than rules of their own, right for all that vmap takes."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from nnscan.models.linear import Linear
from nnscan.tasks.outputs import Outputs, changed, tensors
from nnscan.training.fusion.stack import Named, Stack


@dataclass
class Vmapped:
    """The networks of a stack, whatever they are: a `StackedNetwork`.

    Dropout draws for all networks at once, from torch's own generator: a network's masks depend on its neighbours.
    """

    module: nn.Module
    """Like each of them; its own parameters are not used."""
    stack: Stack
    parameters: Named = field(init=False)
    outputs: Outputs = field(init=False)
    rows: slice = field(init=False)

    @classmethod
    def of(cls, model: nn.Module, stack: Stack) -> Vmapped:
        """Return the networks like `model` in the rows of `stack`."""
        module = copy.deepcopy(model)
        for layer in module.modules():
            if isinstance(layer, Linear):
                layer.plain = True
        return cls(module, stack)

    def admit(self, model: nn.Module, row: int) -> None:
        """Take note of nothing: all else is the same in every network."""

    def forward(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return what the networks give in training."""
        self.rows = rows
        self.parameters = {
            name: values[rows].detach().requires_grad_() for name, values in self.stack.parameters.items()
        }
        self.module.train()
        self.outputs = self._computed(self.parameters, rows, inputs)
        return changed(self.outputs, Tensor.detach)

    def backward(self, gradients: Outputs) -> None:
        """Write the gradients of the parameters."""
        found = torch.autograd.grad(
            tensors(self.outputs),
            list(self.parameters.values()),
            tensors(gradients),
            allow_unused=True,
            materialize_grads=True,
        )
        for name, gradient in zip(self.parameters, found, strict=True):
            self.stack.parameter_gradients[name][self.rows].copy_(gradient)

    def evaluate(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return what the networks give in evaluation mode."""
        self.module.eval()
        return self._computed({name: values[rows] for name, values in self.stack.parameters.items()}, rows, inputs)

    def _computed(self, parameters: Named, rows: slice, inputs: Tensor) -> Outputs:
        buffers = {name: values[rows] for name, values in self.stack.buffers.items()}
        return vmap(self._one, randomness="different")(parameters, buffers, inputs)

    def _one(self, parameters: Named, buffers: Named, inputs: Tensor) -> Outputs:
        given = {**parameters, **buffers}
        found = functional_call(self.module, given, (inputs,))
        for name, buffer in buffers.items():
            if given[name] is not buffer:  # what is not written in place never reaches the stack
                raise RuntimeError(f"it puts another tensor in the place of its buffer {name}")
        return found  # type: ignore[no-any-return]


def refusal(model: nn.Module, example: Tensor) -> str:
    """Return why networks like `model` cannot be computed so, "" where they can; `example` is a batch, (n, ...)."""
    if any(not one.requires_grad for one in model.parameters()):
        return "it has parameters that are not trained"
    if len({one.dtype for one in model.parameters()}) > 1:
        return "its parameters are of several types"
    stack = Stack.like(model, 2)
    networks = Vmapped.of(model, stack)
    rows = slice(0, 2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a fallback of vmap's, one network at a time, warns
            for row in range(2):
                stack.admit(copy.deepcopy(model), row)
            found = networks.forward(rows, example.expand(2, *example.shape))
            networks.backward(changed(found, torch.ones_like))
            networks.evaluate(rows, example.expand(2, *example.shape))
    except Exception as error:  # whatever a user's module, or vmap, throws
        return f"vmap does not take it: {' '.join(str(error).split())[:200]}"
    return ""
