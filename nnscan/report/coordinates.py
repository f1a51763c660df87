"""The grid of a family as parallel coordinates: a line a configuration, through its value on each axis to its score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnscan.results.leaderboard import FamilySummary, Leader
from nnscan.results.selection import Floats
from nnscan.results.wording import value_text

BAND = 0.7
"""Share of the distance between two values over which lines through one value are spread, worst below."""


@dataclass(frozen=True, kw_only=True)
class ValueAxis:
    """An axis of the view: a hyperparameter."""

    path: str
    values: tuple[Any, ...]
    """From below; None where a configuration has no such option."""

    @property
    def places(self) -> Floats:
        """Height of each value, from 0 to 1."""
        count = len(self.values)
        return (np.arange(count) + 0.5) / count


@dataclass(frozen=True, kw_only=True)
class Coordinates:
    """A family's grid."""

    family: str
    axes: tuple[ValueAxis, ...]
    heights: Floats
    """(C, A): where each configuration meets each axis, from 0 to 1; the worst configuration first."""
    scores: Floats
    """(C,)"""
    low: float
    """Score at the foot of the last axis."""
    high: float
    """Score at its head: where the metric is best small, this is the smallest."""


def coordinates(family: FamilySummary, *, smallest: bool) -> Coordinates | None:
    """Return the view of a family; None where it has less than two axes or three complete configurations."""
    leaders = [leader for leader in family.leaders if math.isfinite(leader.mean)][::-1]
    if len(family.axes) < 2 or len(leaders) < 3:
        return None
    axes = [_axis(path, leaders) for path in family.axes]
    scores = np.array([leader.mean for leader in leaders])
    low, high = (scores.max(), scores.min()) if smallest else (scores.min(), scores.max())
    heights = np.stack([_heights(axis, leaders) for axis in axes], axis=1)
    return Coordinates(
        family=family.name, axes=tuple(axes), heights=heights, scores=scores, low=float(low), high=float(high)
    )


def _axis(path: str, leaders: list[Leader]) -> ValueAxis:
    values = (leader.hyperparameters[path] for leader in leaders)
    distinct = list({value_text(value): value for value in values}.values())  # lists cannot be keys
    there = [value for value in distinct if value is not None]
    ordered = sorted(there, key=_order)
    return ValueAxis(path=path, values=tuple([None, *ordered] if len(there) < len(distinct) else ordered))


def _order(value: Any) -> tuple[int, Any]:
    """Numbers and lists by their values, then text."""
    if isinstance(value, list):
        return 1, [str(type(one)) + f"{one:020.9f}" if isinstance(one, int | float) else str(one) for one in value]
    return (0, value) if isinstance(value, bool | int | float) else (2, str(value))


def _heights(axis: ValueAxis, leaders: list[Leader]) -> Floats:
    """Heights of the configurations on an axis: those of one value side by side, in the order of their scores."""
    codes = np.array([axis.values.index(leader.hyperparameters[axis.path]) for leader in leaders])
    heights = axis.places[codes]
    for code in range(len(axis.values)):
        members = np.flatnonzero(codes == code)
        spread = (np.arange(len(members)) + 0.5) / len(members) - 0.5
        heights[members] += spread * BAND / len(axis.values)
    found: Floats = heights
    return found
