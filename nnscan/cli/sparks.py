"""Numbers as characters of a terminal: spark lines, and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

LEVELS = "▁▂▃▄▅▆▇█"
MISSING = " "
EIGHTHS = " ▏▎▍▌▋▊▉█"
"""Left parts of a cell, by eighths."""


def spark(values: Sequence[float], width: int, bounds: tuple[float, float] | None = None) -> str:
    """Return a character a value, at most `width`: where there are more, each stands for the mean of neighbours.

    Parameters
    ----------
    values : sequence of float
        What is not finite is left blank.
    width : int
        Characters at most.
    bounds : pair of float, optional
        Values of the lowest and the highest character; without it the smallest and the largest of `values`.

    Examples
    --------
    >>> spark([0, 1, 2, 3, 4, 5, 6, 7], 8)
    '▁▂▃▄▅▆▇█'
    """
    low, high = bounds or span(values)
    return "".join(_level(value, low, high) for value in _means(values, width))


def span(*series: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest finite value of several series; 0 and 0 where there is none."""
    finite = [value for values in series for value in values if math.isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 0.0)


def _means(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [round(index * len(values) / width) for index in range(width + 1)]
    return [_mean(values[start:stop]) for start, stop in pairwise(edges)]


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _level(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return MISSING
    share = (value - low) / (high - low) if high > low else 0.0
    return LEVELS[round(min(max(share, 0.0), 1.0) * (len(LEVELS) - 1))]


def bar(share: float, width: int) -> str:
    """Return a bar of `width` cells for 1, of none for 0 and for what is not a number."""
    eighths = round(8 * width * min(max(share, 0.0), 1.0)) if math.isfinite(share) else 0
    return (EIGHTHS[8] * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()
