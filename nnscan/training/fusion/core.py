"""What the networks of a group are computed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from nnscan.training.fusion.batches import Gathering
from nnscan.training.fusion.member import Member
from nnscan.training.fusion.network import StackedNetwork
from nnscan.training.fusion.optimizers import StackedOptimizer
from nnscan.training.fusion.stack import Stack
from nnscan.training.state import EpochSums

NetworkOf = Callable[[nn.Module, Stack], StackedNetwork]
"""Makes what computes networks like a module in the rows of a stack."""


@dataclass(frozen=True)
class Core:
    """The rows of a group, and what is done with them."""

    stack: Stack
    network: StackedNetwork
    optimizer: StackedOptimizer
    gathering: Gathering
    losses: Tensor
    """(rows,): sums of an epoch, as `EpochSums` has them."""
    hits: Tensor
    """(rows,), int64."""

    @classmethod
    def of(cls, member: Member, size: int, network_of: NetworkOf) -> Core:
        """Return rows for so many trials like `member`."""
        state = member.state
        stack, sums = Stack.like(state.model, size), EpochSums.zero(member.data.device)
        return cls(
            stack=stack,
            network=network_of(state.model, stack),
            optimizer=StackedOptimizer.of(state.trial.settings["optimizer"], stack),
            gathering=Gathering.of(member, size),
            losses=sums.loss.new_zeros(size),
            hits=sums.hits.new_zeros(size),
        )

    def admit(self, member: Member, row: int) -> None:
        """Move a trial into a row."""
        generators, state = self.stack.generators, member.state
        if member.row != row:
            generators[row].set_state(generators[member.row].get_state())
        member.row = row
        self.stack.admit(state.model, row)
        self.optimizer.admit(state.optimizer, row)
        self.network.admit(state.model, row)

    def sums(self, row: int) -> EpochSums:
        """Return the sums of a row, from nothing on."""
        return EpochSums(self.losses[row], self.hits[row])
