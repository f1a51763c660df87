"""Where epochs of trials are shown beside nnscan: TensorBoard, Weights & Biases.

A tracker is given tracks (`nnscan.results.feed`) by a process that reads the scan folder, never by a worker.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from nnscan.results.feed import Track
from nnscan.results.schema import leaves
from nnscan.trial import Kind

KEY_DIGITS = 12
"""Of a trial's key, in the name of its run: of 2,000 trials two are alike once in 10^8 scans."""

SCORES = ("score", "test_accuracy", "test_loss")
"""Of an end, beside the epochs."""


class Tracker(Protocol):
    """Shows tracks elsewhere. What was shown once is not shown again, by another process neither."""

    most: int
    """Trials that it can show."""

    def has(self, track: Track) -> bool:
        """Return whether all of a track that is over, given without epochs, is shown."""
        ...

    def take(self, track: Track) -> None:
        """Show what is new in a track; where it is another attempt than before, in place of what was shown."""
        ...

    def flush(self) -> None:
        """Have what was taken where it can be looked at; called after a few tracks."""
        ...

    def close(self) -> None:
        """Come to the end; trials in training go on with the next tracker."""
        ...

    def hint(self) -> Iterator[str]:
        """Yield what to type to look at it."""
        ...


def run_name(track: Track) -> str:
    """Return the name of a track's run: its family, and the start of its key."""
    retrained = "retrained-" if track.kind == Kind.RETRAINING else ""
    return f"{track.family or 'trials'}/{retrained}{track.trial[:KEY_DIGITS]}"


def scalars(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the numbers of an epoch under their names; of a list each under the name and its index."""
    for name, value in metrics.items():
        if isinstance(value, int | float):
            yield name, float(value)
        elif isinstance(value, list | tuple):
            numbers = ((index, item) for index, item in enumerate(value) if isinstance(item, int | float))
            yield from ((f"{name}/{index}", float(item)) for index, item in numbers)


def end_scalars(track: Track) -> Iterator[tuple[str, float]]:
    """Yield what an end says in numbers."""
    return scalars({name: track.end.get(name) for name in SCORES})


def hyperparameters(track: Track) -> dict[str, bool | float | str]:
    """Return the settings of a track, each under its dotted path; a list as JSON."""
    return {path: _plain(value) for path, value in leaves(track.settings)}


def _plain(value: Any) -> bool | float | str:
    return value if isinstance(value, bool | int | float | str) else json.dumps(value)
