"""Optimisers of small networks, each with values of its own, as operations on all their rows at once.

A call of torch's kernels takes one learning rate, and for a small network costs ten times its arithmetic. What is done
here is what they do, in the same order: on the CPU the same bits come out, which `agrees` makes sure of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnscan.training.fusion.optimizers import StackedOptimizer
from nnscan.training.fusion.stack import Stack

TakeStep = Callable[[int], None]
"""Takes the optimisers' step of this number in an epoch."""


@dataclass(frozen=True)
class Hyperparameters:
    """What the optimisers of k networks are told in an epoch; betas and epsilon are those of all."""

    settings: Sequence[Mapping[str, Any]]
    """The table `optimizer` of each."""
    rates: Sequence[Sequence[float]]
    """Of each the learning rate of every step."""
    taken: int
    """Steps that all have taken before the epoch."""

    def column(self, like: Tensor, name: str) -> Tensor:
        """Return a number of each, (k, 1)."""
        return like.new_tensor([[table[name]] for table in self.settings])

    def by_step(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the learning rates, (steps, k, 1)."""
        return np.array(self.rates, dtype=np.float64).T[..., None]

    def corrections(self, beta: float) -> list[float]:
        """Return what a mean that begins at zero is divided by after each step (Kingma and Ba 2015, algorithm 1)."""
        steps = range(self.taken + 1, self.taken + 1 + len(self.rates[0]))
        return [1 - beta ** float(step) for step in steps]


def prepared(optimizer: StackedOptimizer, rows: slice, told: Hyperparameters) -> TakeStep:
    """Return what takes the steps of the networks in these rows."""
    return (_Sgd if optimizer.name == "sgd" else _Adam)(optimizer, rows, told)


class _Rows:
    """The rows of the networks, and room for as many values."""

    def __init__(self, optimizer: StackedOptimizer, rows: slice, told: Hyperparameters) -> None:
        self.values, self.gradients = optimizer.stack.values[rows], optimizer.stack.gradients[rows]
        self.decays = told.column(self.values, "weight_decay")
        self.decay = any(table["weight_decay"] for table in told.settings)
        self.room = torch.empty_like(self.values)

    def decayed(self) -> Tensor:
        """Return the gradients with those of the weights' decay."""
        if not self.decay:
            return self.gradients
        return torch.addcmul(self.gradients, self.values, self.decays, out=self.room)


class _Sgd(_Rows):
    """Stochastic gradient descent, with momentum or without."""

    def __init__(self, optimizer: StackedOptimizer, rows: slice, told: Hyperparameters) -> None:
        super().__init__(optimizer, rows, told)
        self.scales = torch.from_numpy(-told.by_step()).to(self.values)  # (steps, k, 1)
        self.momenta: Tensor | None = None
        for buffers in optimizer.moments.values():
            self.buffers, self.momenta = buffers[rows], told.column(self.values, "momentum")
            self.looks_ahead = bool(told.settings[0]["nesterov"])

    def __call__(self, step: int) -> None:
        direction = self.decayed()
        if self.momenta is not None:
            self.buffers.mul_(self.momenta).add_(direction)
            direction = self._ahead(direction, self.momenta) if self.looks_ahead else self.buffers
        self.values.addcmul_(direction, self.scales[step])

    def _ahead(self, direction: Tensor, momenta: Tensor) -> Tensor:
        return torch.addcmul(direction, self.buffers, momenta, out=self.room)


class _Adam(_Rows):
    """Adam, and AdamW, whose weight decay does not pass through the moments."""

    def __init__(self, optimizer: StackedOptimizer, rows: slice, told: Hyperparameters) -> None:
        super().__init__(optimizer, rows, told)
        settings = told.settings[0]
        self.averages, self.squares = (optimizer.moments[name][rows] for name in ("exp_avg", "exp_avg_sq"))
        self.roots = torch.empty_like(self.values)
        self.arrays = self.squares.numpy(), self.roots.numpy()
        (self.beta1, self.beta2), self.epsilon = settings["betas"], settings["epsilon"]
        rates, decays = told.by_step(), told.column(self.values.double(), "weight_decay").numpy()
        first = np.array(told.corrections(self.beta1))[:, None, None]
        self.scales = torch.from_numpy(-(rates / first)).to(self.values)  # (steps, k, 1)
        self.root_corrections = list(map(math.sqrt, told.corrections(self.beta2)))
        self.is_decoupled = optimizer.name == "adamw"
        self.shrinkage = torch.from_numpy(1 - rates * decays).to(self.values)

    def __call__(self, step: int) -> None:
        gradients = self.gradients if self.is_decoupled else self.decayed()
        if self.is_decoupled and self.decay:
            self.values.mul_(self.shrinkage[step])
        self.averages.lerp_(gradients, 1 - self.beta1)
        self.squares.mul_(self.beta2).addcmul_(gradients, gradients, value=1 - self.beta2)
        np.sqrt(self.arrays[0], out=self.arrays[1])  # as the kernels do: torch.sqrt rounds one in five values away
        self.roots.div_(self.root_corrections[step]).add_(self.epsilon)
        self.values.add_(torch.mul(self.averages, self.scales[step], out=self.room).div_(self.roots))


@cache
def agrees(name: str) -> bool:
    """Return whether an optimiser gives the bits here that torch's kernel gives: over steps of made-up networks.

    In float32: in float64 what a scalar is rounded to shows.
    """
    settings = [_made_up(name, row) for row in range(3)]
    rates = [[0.01 * (row + 1)] * 3 for row in range(3)]
    ours, theirs = (_random_optimizer(settings[0]) for _ in range(2))
    take = prepared(ours, slice(0, 3), Hyperparameters(settings, rates, taken=0))
    for step in range(3):
        take(step)
        theirs.steps.add_(1)
        for row, table in enumerate(settings):
            theirs.prepared(slice(row, row + 1), table)(lr=rates[row][step])
    return torch.equal(ours.stack.values, theirs.stack.values)


def _made_up(name: str, row: int) -> dict[str, Any]:
    more = {"betas": [0.9, 0.999], "epsilon": 1e-8, "momentum": 0.9 - 0.1 * row, "nesterov": True}
    return {"name": name, "weight_decay": 0.01 * row, **more}


def _random_optimizer(settings: Mapping[str, Any]) -> StackedOptimizer:
    generator = torch.Generator().manual_seed(0)
    values, gradients = (torch.randn(3, 80, generator=generator) for _ in range(2))
    return StackedOptimizer.of(settings, Stack(values, gradients, {}, {}, {}, []))
