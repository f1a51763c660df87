"""Trials of a bundle that are trained together: their attempts go on in turn, an epoch each.

What may happen to one is no matter of the others: one that ends makes room for the next. Where the group itself
fails, its attempts are made again, without a mark against them: in smaller groups where memory was short, else alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nnscan.allocation import AllocationEndedError
from nnscan.attempt import CancelledError, Ending, NotTogetherError, Running
from nnscan.fusing import Numbered
from nnscan.trial import Trial

if TYPE_CHECKING:
    from nnscan.training.fusion.group import Joined
    from nnscan.training.fusion.join import Company


@dataclass(frozen=True)
class Hands:
    """What a worker does for each trial of a group."""

    begin: Callable[[Trial, int], Running]
    """Begins an attempt, which joins the company."""
    fits: Callable[[Trial], bool]
    """Whether the time that is left takes a trial: until it does not, those that run go on."""
    may_begin: Callable[[Trial], bool]
    """Asked before; raises AllocationEndedError where the time does not take it."""
    ended: Callable[[Numbered, Ending, float], None]
    """Told of each end, with the seconds that it took."""
    ends_together: Callable[[], AbstractContextManager[None]]
    """In which a round is written: the results of all that end in it are on the disk afterwards."""


@dataclass
class Together:
    """The attempts of a company."""

    company: Company
    hands: Hands
    waiting: deque[Numbered]
    running: list[_Attempt] = field(default_factory=list)
    ends: AllocationEndedError | None = None
    """Why all end, once one has heard of it: the others save themselves, too."""
    failed: BaseException | None = None
    """Why the group could not go on."""

    def run(self) -> list[Numbered]:
        """Make the attempts; return those that the group could not make.

        Raises
        ------
        AllocationEndedError, or what else is no trial's fault
            See `attempt.run`: every attempt that runs then is told to have been interrupted.
        """
        try:
            while self.waiting or self.running:
                self._fill()
                with self.hands.ends_together():
                    for attempt in list(self.running):
                        self._go_on(attempt)
                if self.ends and not self.running:
                    raise self.ends
        except NotTogetherError as error:
            self.failed = error.__cause__
            return [*(attempt.numbered for attempt in self.running), *self.waiting]
        finally:
            self._close()
        return []

    def _fill(self) -> None:
        """Begin attempts up to the size of the group, and bring each to its first row: epochs are of all at once."""
        begun = []
        while self.waiting and self._has_room(self.waiting[0][0]):
            numbered = self.waiting.popleft()
            if self._may_begin(numbered[0]):
                begun.append(self._begin(numbered))
        for attempt in begun:
            if attempt in self.running:
                self._go_on(attempt)

    def _has_room(self, trial: Trial) -> bool:
        if self.ends or len(self.running) >= self.company.size:
            return False
        return not self.running or self.hands.fits(trial)  # it waits: those that run may still end in time

    def _may_begin(self, trial: Trial) -> bool:
        try:
            return self.hands.may_begin(trial)
        except AllocationEndedError as error:  # the others save themselves first
            self.ends = error
            return False

    def _begin(self, numbered: Numbered) -> _Attempt:
        attempt = _Attempt(numbered, self.hands.begin(*numbered))
        self.running.append(attempt)
        self._go_on(attempt)
        return attempt

    def _go_on(self, attempt: _Attempt) -> None:
        try:
            next(attempt.running)
            self._note(attempt)
        except StopIteration as ended:
            self._leave(attempt)
            self.hands.ended(attempt.numbered, ended.value, time.monotonic() - attempt.started)
        except CancelledError:
            self._leave(attempt)
        except AllocationEndedError as error:
            self._leave(attempt)
            self.ends = error

    def _leave(self, attempt: _Attempt) -> None:
        self.running.remove(attempt)
        self._note(attempt)
        if attempt.joined:
            attempt.joined.leave()

    def _note(self, attempt: _Attempt) -> None:
        """Take note of what trains an attempt, if that has just opened."""
        if self.company.joined:
            attempt.joined = self.company.joined.pop()

    def _close(self) -> None:
        for attempt in self.running:
            attempt.running.close()


@dataclass(eq=False)
class _Attempt:
    numbered: Numbered
    running: Running
    started: float = field(default_factory=time.monotonic)
    joined: Joined | None = None
    """None where it is trained alone."""
