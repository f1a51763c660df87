"""The time that a process was given: a scheduler says with a signal that it ends."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

Tell = Callable[[str], None]
"""Takes the reason why an allocation ends."""


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
    listeners: list[Tell] = field(default_factory=list)
    """Told when it is set."""

    def fits(self, seconds: float) -> bool:
        """Return whether what takes `seconds` can be started: it ends in time, or would not in a whole one either."""
        return seconds <= self.ends - time.time() or seconds > self.seconds

    def end(self, reason: Reason) -> None:
        """Take note that it ends, and tell who listens; of several reasons the first stands."""
        if self.reason is None:
            self.reason = reason
            for tell in reversed(tuple(self.listeners)):  # who came last is nearest to the work
                tell(reason)

    @contextmanager
    def telling(self, tell: Tell) -> Iterator[None]:
        """Have `tell` called once, in this block, where the allocation ends: from another thread, at any moment."""
        self.listeners.append(tell)
        try:
            if self.reason:
                tell(self.reason)
            yield
        finally:
            self.listeners.remove(tell)


ENDLESS = Allocation()


def end_on(allocation: Allocation, signals: Mapping[signal.Signals, Reason]) -> None:
    """Let each of `signals` end `allocation` from now on. Called in the main thread.

    Nothing else is done where a signal meets the program. It is noted by a thread, which Python's own handler feeds
    through a pipe: so it is noted at once, also while the main thread is in C code that knows of no signals.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for number in signals:
        signal.signal(number, _go_on)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_note, args=(allocation, dict(signals), reading), daemon=True).start()


def _go_on(number: int, frame: object) -> None:
    """Do nothing: only signals that have a handler in Python are written to the pipe."""


def _note(allocation: Allocation, signals: Mapping[int, Reason], reading: int) -> None:
    while numbers := os.read(reading, 64):
        for number in numbers:
            if number in signals:
                allocation.end(signals[number])
