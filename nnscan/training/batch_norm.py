"""Batch normalisation of a batch that lies on several processes, on any device.

torch's own SyncBatchNorm takes no CPU tensors. Mean and variance of each process travel with the number of examples
they are of, and are put together in float64 (Chan, Golub and LeVeque 1983, "Algorithms for computing the sample
variance", equations 2.1), so shares of any size are right, those of one example and of none too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from nnscan.training.group import Group


@dataclass
class Presence:
    """Whether what this rank feeds its network belongs to the batch."""

    group: Group
    counts: bool = True
    """False where the rank has no share of a batch: it takes part in every step, with an example of no weight."""


def synchronize(model: nn.Module, presence: Presence) -> None:
    """Make every batch normalisation of `model` one of the whole batch, in place; names and values stay.

    Raises
    ------
    ValueError
        Where one computes in a way of its own.
    """
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            kind: Any = type(module)
            if kind.forward is not _BatchNorm.forward:
                raise ValueError(
                    f"{kind.__name__} is a batch normalisation with a forward of its own, which nnscan cannot"
                    " compute over several processes: use nn.BatchNorm1d, 2d or 3d, or set"
                    " resources.processes_per_trial = 1."
                )
            # The module stays the same object: a model may hold it in places that nnscan does not know of.
            module.__class__ = _synchronized(kind)
            assert isinstance(module, _Synchronized)
            module.presence = presence


@cache
def _synchronized(kind: Any) -> Any:
    """Return the class that differs from `kind` in its forward pass only."""
    return type(f"Synchronized{kind.__name__}", (_Synchronized, kind), {})


class _Synchronized(_BatchNorm):
    """A batch normalisation whose batch is that of all ranks."""

    presence: Presence

    def forward(self, input: Tensor) -> Tensor:
        """Return `input` normalised over the batch; in evaluation by the running statistics, where they are kept."""
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        if not self.training and self.running_mean is not None:
            return super().forward(input)
        values = _of_whole_batch(input.detach(), self.presence)
        if self.training and self.track_running_stats:
            self._track(values)
        normalized: Tensor = _Normalize.apply(input, self.weight, self.bias, values, self.eps, self.presence)
        return normalized

    @torch.no_grad()
    def _track(self, batch: Statistics) -> None:
        """Move the running statistics towards those of the batch, as torch does: the variance is the unbiased one."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked += 1
        step = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = batch.variance * (batch.count / (batch.count - 1))
        self.running_mean.lerp_(batch.mean.to(self.running_mean.dtype), step)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), step)


@dataclass(frozen=True)
class Statistics:
    """Of each channel, over the examples of all ranks and the places in an image: float64, (C,)."""

    mean: Tensor
    variance: Tensor
    """The biased one: mean squared distance from the mean."""

    count: Tensor
    """Number of values in a channel, a scalar."""


def _of_whole_batch(values: Tensor, presence: Presence) -> Statistics:
    """Return the statistics of `values`, (N, C, ...), and those of the other ranks."""
    wide, places, shape = _at_least_float32(values), _all_but_channels(values), _beside(values)
    mean = wide.mean(places)
    # Not torch.var_mean, which takes ten times as long on a CPU (torch 2.15, 7.4 ms of 1.6 million values).
    variance = (wide - mean.view(shape)).square_().mean(places)
    size = values.numel() // values.shape[1]
    own = torch.cat([mean, variance, mean.new_tensor([size])]).double()
    rows = presence.group.stack(own if presence.counts else torch.zeros_like(own))
    counts = rows[:, -1:]
    means, variances = rows[:, :-1].chunk(2, dim=1)
    count = counts.sum()
    if size == 1 and count == 1:  # the second asks the device, so the first comes first
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {tuple(values.shape)}")
    mean = (counts * means).sum(0) / count
    variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
    return Statistics(mean, variance, count)


class _Normalize(Function):
    """Normalises a share with the statistics of the whole batch; its gradient knows how they depend on each value.

    With x the values, y = w (x - mean) / s + b, s^2 = variance + eps, and g the gradient by y, the one by x is
    w / s (g - <g> - (x - mean) / s^2 <g (x - mean)>), where <> is the mean over the whole batch (Ioffe and Szegedy
    2015, "Batch Normalization", section 3).
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        batch: Statistics,
        epsilon: float,
        presence: Presence,
    ) -> Tensor:
        kind = _at_least_float32(values).dtype
        mean, variance = batch.mean.to(kind), batch.variance.to(kind)
        ctx.save_for_backward(values, weight, mean, (batch.variance + epsilon).rsqrt().to(kind), batch.count)
        ctx.group, ctx.counts = presence.group, presence.counts
        return functional.batch_norm(values, mean, variance, weight, bias, training=False, eps=epsilon)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        values, weight, mean, inverse, count = ctx.saved_tensors
        shape, places = _beside(values), _all_but_channels(values)
        given = _at_least_float32(gradient)
        centred = _at_least_float32(values) - mean.view(shape)
        by_bias, along = given.sum(places), (given * centred).sum(places)
        by_values = None
        if ctx.needs_input_grad[0]:
            common, coupled = (ctx.group.add(torch.cat([by_bias, along])) / count).to(given.dtype).chunk(2)
            scale = (inverse if weight is None else inverse * weight).view(shape)
            if ctx.counts:
                given = centred.mul_((-coupled * inverse**2).view(shape)).add_(given).sub_(common.view(shape))
            by_values = (given * scale).to(gradient.dtype)
        return by_values, *_of_affine(weight, along * inverse, by_bias), None, None, None


def _of_affine(weight: Tensor | None, by_weight: Tensor, by_bias: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients by weight and bias of this rank's share, in their type; none without them."""
    if weight is None:
        return None, None
    return by_weight.to(weight.dtype), by_bias.to(weight.dtype)


def _all_but_channels(values: Tensor) -> list[int]:
    return [dimension for dimension in range(values.dim()) if dimension != 1]


def _beside(values: Tensor) -> list[int]:
    """Return the shape in which one number a channel meets `values`."""
    return [1, -1, *[1] * (values.dim() - 2)]


def _at_least_float32(values: Tensor) -> Tensor:
    """bfloat16 holds two to three digits: too few for sums."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
