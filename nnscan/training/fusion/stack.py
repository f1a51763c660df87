"""The parameters and buffers of several networks of one shape, each tensor of all of them in one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnscan.training.parameters import placed, places

Named = dict[str, Tensor]


@dataclass(frozen=True)
class Stack:
    """Rows for so many networks. A network that lies in a row computes, learns and is saved as ever, through views."""

    values: Tensor
    """(rows, P), of each network all trainable parameters, as `parameters.flatten` lays them out."""

    gradients: Tensor
    """(rows, P), beside them."""

    parameters: Named
    """Views of `values` by name as in `named_parameters`: (rows, *shape of the parameter)."""

    parameter_gradients: Named
    """Views of `gradients` likewise."""

    buffers: Named
    """By name as in `named_buffers`: (rows, *shape), such as the running statistics of batch normalisation."""

    generators: list[torch.Generator]
    """Of each row: what its network draws from in training (dropout)."""

    @classmethod
    def like(cls, model: nn.Module, rows: int) -> Stack:
        """Return rows of zeros for networks like `model`, whose trainable parameters are all of one type."""
        trainable = {name: one for name, one in model.named_parameters() if one.requires_grad}
        starts, length = places(trainable.values())
        first = next(iter(trainable.values()))
        values = first.new_zeros(rows, length)
        gradients = torch.zeros_like(values)
        shapes = {name: (start, one.shape) for start, (name, one) in zip(starts, trainable.items(), strict=True)}
        return cls(
            values=values,
            gradients=gradients,
            parameters={name: placed(values, *where) for name, where in shapes.items()},
            parameter_gradients={name: placed(gradients, *where) for name, where in shapes.items()},
            buffers={name: one.new_zeros((rows, *one.shape)) for name, one in model.named_buffers()},
            generators=[torch.Generator(first.device) for _ in range(rows)],
        )

    def admit(self, model: nn.Module, row: int) -> None:
        """Move `model` into a row: from now on its parameters, their gradients and its buffers are views of it."""
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    self.parameters[name][row].copy_(parameter)
                    parameter.data = self.parameters[name][row]
                    parameter.grad = self.parameter_gradients[name][row]
            for name, buffer in model.named_buffers():
                self.buffers[name][row].copy_(buffer)
                buffer.data = self.buffers[name][row]
