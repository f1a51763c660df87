"""How a trial of a bundle joins those that it is trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnscan.training import loop
from nnscan.training.fusion.choice import choose
from nnscan.training.fusion.group import FusedGroup, Joined, together
from nnscan.training.network import EpochLoop
from nnscan.training.state import TrainingState
from nnscan.training.trial_data import TrialData


@dataclass
class Company:
    """The trials of one shape that are trained together: how many at a time the first one that joins finds out."""

    fuse: str
    """`--fuse`: "auto", or how many at a time."""
    remembered: Path
    """Folder for what was measured."""
    exact: bool = False
    """Whether only those are trained together whose bits do not depend on the company."""
    at_most: int = 2**31
    """Fewer, where more found no memory."""
    group: FusedGroup | None = None
    reason: str = ""
    """Why each is trained alone; "" where they are together, or none has joined."""
    joined: list[Joined] = field(default_factory=list)
    """The last one that joined, until it is taken note of."""

    def smaller(self) -> Company:
        """Return one of half the size, in memory of its own."""
        return replace(self, at_most=self.size // 2, group=None, joined=[])

    @property
    def size(self) -> int:
        """How many are trained at a time: 1 until the first has joined."""
        return self.group.size if self.group else 1

    def join(self, state: TrainingState, data: TrialData, goes_on: Callable[[], bool]) -> EpochLoop:
        """Return what trains a trial: the group, or `nnscan.training.loop` where that is as fast."""
        if self.group is None and not self.reason:
            with together():
                self._found(state, data)
        if self.group is None:
            return loop
        with together():
            self.joined.append(self.group.join(state, data, goes_on))
        return self.joined[-1]

    def _found(self, state: TrainingState, data: TrialData) -> None:
        count = min(state.part_size, len(data.training))
        example, _ = data.batch(data.training[:count], state.buffers)
        choice = choose(state.model, example.clone(), self.fuse, self.remembered, exact=self.exact)
        if choice.reason:
            self.reason = choice.reason
        else:
            self.group = FusedGroup(min(choice.size, self.at_most), choice.network_of)
