"""Trials of a group whose steps are taken together: their rows follow each other, their batches have one length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnscan.training.fusion import steps
from nnscan.training.fusion.batches import Source
from nnscan.training.fusion.by_row import TakeStep
from nnscan.training.fusion.core import Core
from nnscan.training.fusion.losses import StackedLoss
from nnscan.training.fusion.member import Member, rows_of


@dataclass(frozen=True)
class Lane:
    """Trials that take some steps together."""

    core: Core
    members: Sequence[Member]
    loss_of: StackedLoss
    source: Source
    steps: Sequence[TakeStep]
    """What takes the step of the optimisers, each of some rows."""
    clipped: Sequence[Member]
    """Whose gradients are clipped."""

    @classmethod
    def of(cls, core: Core, members: Sequence[Member], loss_of: StackedLoss) -> Lane:
        """Return the lane of `members`."""
        clipped = [one for one in members if one.state.trial.settings["training"]["gradient_clip"]]
        source, taken = core.gathering.source(members), steps.of(core.optimizer, members)
        return cls(core, members, loss_of, source, taken, clipped)

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
        for take in self.steps:
            take(step)
        core.losses[rows].add_(found.means, alpha=end - start)
        core.hits[rows].add_(found.hits)
