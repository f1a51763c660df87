"""Trials of a group whose steps are taken together: their rows follow each other, their batches have one length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from nnscan.training.fusion.batches import Source
from nnscan.training.fusion.core import Core
from nnscan.training.fusion.losses import StackedLoss
from nnscan.training.fusion.member import Member
from nnscan.training.fusion.optimizers import TakeStep


@dataclass(frozen=True)
class Lane:
    """Trials that take some steps together."""

    core: Core
    members: Sequence[Member]
    loss_of: StackedLoss
    source: Source
    steps: Sequence[tuple[Member, TakeStep]]
    """What takes the step of the optimisers, each with a trial whose learning rate is that of all."""
    clipped: Sequence[Member]
    """Whose gradients are clipped."""

    @classmethod
    def of(cls, core: Core, members: Sequence[Member], loss_of: StackedLoss) -> Lane:
        """Return the lane of `members`."""
        steps = [
            (some[0], core.optimizer.prepared(rows_of(some), some[0].state.trial.settings["optimizer"]))
            for some in runs(members, lambda member: member.optimizer_steps)
        ]
        clipped = [one for one in members if one.state.trial.settings["training"]["gradient_clip"]]
        return cls(core, members, loss_of, core.gathering.source(members), steps, clipped)

    def step(self, step: int) -> None:
        """Take the step of this number in the epoch."""
        core, rows = self.core, rows_of(self.members)
        start, end = self.members[0].batches[step]
        inputs, targets = self.source.take(start, end)
        found = self.loss_of(rows, core.network.forward(rows, inputs), targets)
        core.network.backward(found.gradients)
        for member in self.clipped:
            member.state.parameters.clip(member.state.trial.settings["training"]["gradient_clip"])
        core.optimizer.steps[rows].add_(1)
        for member, take in self.steps:
            take(lr=member.rates[step])
        core.losses[rows].add_(found.means, alpha=end - start)
        core.hits[rows].add_(found.hits)


def rows_of(members: Sequence[Member]) -> slice:
    """Return the rows of members that follow each other."""
    return slice(members[0].row, members[-1].row + 1)


def runs(members: Sequence[Member], key: Callable[[Member], object]) -> Iterator[list[Member]]:
    """Yield members whose rows follow each other and whose keys are equal."""
    numbered = enumerate(members)  # rows that follow each other keep their distance to the count
    for _, run in groupby(numbered, lambda pair: (pair[1].row - pair[0], key(pair[1]))):
        yield [member for _, member in run]
