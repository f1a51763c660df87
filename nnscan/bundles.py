"""How the trials of a launch are cut into bundles."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

PARTS_OF_A_FAIR_SHARE = 3
"""A worker that asks gets a third of its fair share of what is left, so that all workers end together
(guided self-scheduling, Polychronopoulos and Kuck 1987, with a smaller first chunk)."""

ROUNDING = 1e-9
"""Of a quotient that is whole."""


@dataclass(frozen=True)
class Bundle:
    """Trials that one worker runs after another: the range `start` to `stop` of a launch's list."""

    launch: str
    """Name of the launch."""
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Return what names its files: unique in the scan folder, without a dot; a repeated bundle keeps it."""
        return f"{self.launch}-{self.start}"

    def plain(self) -> dict[str, str | int]:
        """Return its fields, for JSON."""
        return {"launch": self.launch, "start": self.start, "stop": self.stop}


@dataclass(frozen=True)
class Bundles:
    """The bundles of a launch, cut while they are iterated."""

    launch: str
    """Name of the launch."""
    trials: int
    """Length of its list of trials."""
    workers: int
    """Bundles that run at once; 1 gives one bundle."""
    costs: Sequence[Sequence[float]] = ()
    """Where it is known how long trials take: pairs of a place in the list and the seconds of each trial before it,
    behind the pair before. Without: all take equally long."""

    def __iter__(self) -> Iterator[Bundle]:
        """Yield all bundles, in order."""
        bundle = self.after(0)
        while bundle is not None:
            yield bundle
            bundle = self.after(bundle.stop)

    def after(self, start: int) -> Bundle | None:
        """Return the bundle from trial `start` on: a third of the fair share of what is left; None at the end."""
        left = self.trials - start
        if left <= 0:
            return None
        size = left if self.workers == 1 else self._size(start)
        return Bundle(self.launch, start, start + size)

    def _size(self, start: int) -> int:
        """Return how many trials from `start` on take a third of a fair share of the time left, at least one."""
        stretches = list(self._stretches(start))
        share = sum(count * seconds for count, seconds in stretches) / (PARTS_OF_A_FAIR_SHARE * self.workers)
        size = 0
        for count, seconds in stretches:
            taken = min(count, math.ceil(share / seconds - ROUNDING)) if seconds else count
            size, share = size + taken, share - taken * seconds
            if taken < count or share <= 0:
                break
        return max(1, size)

    def _stretches(self, start: int) -> Iterator[tuple[int, float]]:
        """Yield how many trials from `start` on take how many seconds each."""
        for stop, seconds in self.costs or ((self.trials, 1.0),):
            if stop > start:
                yield int(stop) - start, seconds
                start = int(stop)
