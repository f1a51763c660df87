"""How the trials of a launch are cut into bundles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

PARTS_OF_A_FAIR_SHARE = 3
"""A worker that asks gets a third of its fair share of what is left, so that all workers end together
(guided self-scheduling, Polychronopoulos and Kuck 1987, with a smaller first chunk)."""


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
        size = left if self.workers == 1 else -(-left // (PARTS_OF_A_FAIR_SHARE * self.workers))
        return Bundle(self.launch, start, start + size)
