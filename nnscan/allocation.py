"""The time that a process was given: a scheduler says with a signal that it ends."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why an allocation ends."""

    TIME_LIMIT = "time limit"
    """Its walltime is nearly over: what runs in it goes on in another."""
    TERMINATED = "terminated"
    """It was preempted or cancelled: whether there is another is the scheduler's business."""


class AllocationEndedError(Exception):
    """The allocation ends: the trial was saved where it can be, and goes on in the next. No result, and no fault."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(eq=False)
class Allocation:
    """What is left of the time that this process was given."""

    ends: float = math.inf
    """Unix seconds, by the clock of this host; infinite where nothing ends it."""
    seconds: float = math.inf
    """Length of a whole one."""
    reason: Reason | None = None
    """Set once a signal came: what runs is to save and to end."""

    def fits(self, seconds: float) -> bool:
        """Return whether what takes `seconds` can be started: it ends in time, or would not in a whole one either."""
        return seconds <= self.ends - time.time() or seconds > self.seconds


ENDLESS = Allocation()
