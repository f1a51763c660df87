"""How the trials of a launch are cut into bundles."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

PARTS_OF_A_FAIR_SHARE = 3
"""A worker that asks gets a third of its fair share of what is left, so that all workers end together
(guided self-scheduling, Polychronopoulos and Kuck 1987, with a smaller first chunk)."""

WORTH_SECONDS = 0.5
"""What a bundle should take, where a fair share lasts so long: its journal, its part and their merging cost 0.04 s."""

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
    together: int = 1
    """How many trials a worker is best given at a time: those that it trains together."""

    def __iter__(self) -> Iterator[Bundle]:
        """Yield all bundles, in order."""
        bundle = self.after(0)
        while bundle is not None:
            yield bundle
            bundle = self.after(bundle.stop)

    def after(self, start: int, pace: float = 0.0) -> Bundle | None:
        """Return the bundle from trial `start` on: a third of the fair share of what is left; None at the end.

        More, up to a fair share, where a worker is best given more at a time, or where those before took but `pace`
        seconds each.
        """
        left = self.trials - start
        if left <= 0:
            return None
        size = left if self.workers == 1 else self._size(start, pace)
        return Bundle(self.launch, start, start + size)

    def _size(self, start: int, pace: float) -> int:
        stretches = list(self._stretches(start))
        fair = sum(count * seconds for count, seconds in stretches) / self.workers
        third, whole = (_lasting(fair / parts, stretches) for parts in (PARTS_OF_A_FAIR_SHARE, 1))
        worth = math.ceil(WORTH_SECONDS / pace) if pace else 0
        wanted = max(math.ceil(third / self.together) * self.together, worth)
        # No more than a fair share: what comes next may take a thousand times as long as what the pace is of.
        return max(third, min(wanted, whole))

    def _stretches(self, start: int) -> Iterator[tuple[int, float]]:
        """Yield how many trials from `start` on take how many seconds each."""
        for stop, seconds in self.costs or ((self.trials, 1.0),):
            if stop > start:
                yield int(stop) - start, seconds
                start = int(stop)


def _lasting(seconds: float, stretches: Iterable[tuple[int, float]]) -> int:
    """Return how many trials, of stretches of so many that take so long each, last for `seconds`: at least one."""
    size = 0
    for count, each in stretches:
        taken = min(count, math.ceil(seconds / each - ROUNDING)) if each else count
        size, seconds = size + taken, seconds - taken * each
        if taken < count or seconds <= 0:
            break
    return max(1, size)


@dataclass
class Dealer:
    """Gives bundles to workers that ask, and sees how long trials take."""

    bundles: Bundles
    clock: Callable[[], float] = time.monotonic
    next: int = 0
    """First trial that nobody has been given."""
    pace: float = 0.0
    """Seconds a trial of the bundle that ended last; 0 before one has."""
    begun: dict[Bundle, float] = field(default_factory=dict)

    def deal(self) -> Bundle | None:
        """Return the next bundle; None where nothing is left."""
        bundle = self.bundles.after(self.next, self.pace)
        if bundle is not None:
            self.next, self.begun[bundle] = bundle.stop, self.clock()
        return bundle

    def ended(self, bundle: Bundle) -> None:
        """Take note that a bundle has ended."""
        self.pace = (self.clock() - self.begun.pop(bundle)) / (bundle.stop - bundle.start)
