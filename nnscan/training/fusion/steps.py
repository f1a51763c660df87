"""What takes the steps of the optimisers of trials that are trained together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnscan.training.fusion import by_row
from nnscan.training.fusion.by_row import Hyperparameters, TakeStep
from nnscan.training.fusion.member import Member, rows_of, runs
from nnscan.training.fusion.optimizers import StackedOptimizer

WORTH_A_CALL = 2**13
"""Parameters from which on a call of torch's kernel is faster: it takes 8 us whatever it is given, and saves 0.75 ns a
parameter (Zen 5, one thread)."""


def of(optimizer: StackedOptimizer, members: Sequence[Member]) -> list[TakeStep]:
    """Return what takes the steps of `members`, whose rows follow each other, in the epoch that runs."""
    alike = runs(members, lambda member: member.optimizer_kind)
    return [take for some in alike for take in _of_kind(optimizer, some)]


def _of_kind(optimizer: StackedOptimizer, members: Sequence[Member]) -> list[TakeStep]:
    equal = list(runs(members, lambda member: member.optimizer_steps))
    values = optimizer.stack.values[rows_of(members)]
    small = len(equal) > 1 and values.numel() < WORTH_A_CALL * len(equal)
    if small and (values.device.type, values.dtype) == ("cpu", torch.float32) and by_row.agrees(optimizer.name):
        return [by_row.prepared(optimizer, rows_of(members), _told(members))]
    return [_one_call(optimizer, run) for run in equal]


def _told(members: Sequence[Member]) -> Hyperparameters:
    state = members[0].state
    settings = [member.state.trial.settings["optimizer"] for member in members]
    steps = min(len(member.rates) for member in members)  # they are together until the first one's epoch ends
    return Hyperparameters(settings, [member.rates[:steps] for member in members], taken=state.steps - state.step)


def _one_call(optimizer: StackedOptimizer, members: Sequence[Member]) -> TakeStep:
    first = members[0]
    kernel, rates = optimizer.prepared(rows_of(members), first.state.trial.settings["optimizer"]), first.rates
    return lambda step: kernel(lr=rates[step])
