"""Linear layers of perceptrons, whose products are taken by the faster library of a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nnscan.models.products import SMALLEST, by_onednn, onednn


class Linear(nn.Linear):
    """torch's layer in all but the speed, and the last bits, of products that are large enough."""

    plain = False
    """Whether it computes as torch's does: nothing else can `torch.func` transform."""

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, out_features) of (N, in_features)."""
        # What is small is found out first: this line is a small layer's whole delay.
        if len(input) * self.weight.numel() < SMALLEST or self.plain or not self._takes(input):
            return functional.linear(input, self.weight, self.bias)
        return _Linear.apply(input, self.weight, self.bias)  # type: ignore[no-any-return]

    def _takes(self, inputs: Tensor) -> bool:
        if inputs.dim() != 2 or self.bias is None or torch.is_autocast_enabled(inputs.device.type):
            return False
        return by_onednn(inputs, self.weight.mT)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return onednn(inputs, weight.mT, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        wanted = ctx.needs_input_grad
        return (  # products of the same size as the outputs'
            onednn(gradient, weight) if wanted[0] else None,
            onednn(gradient.mT, inputs) if wanted[1] else None,
            gradient.sum(0) if wanted[2] else None,
        )
