"""How durations, counts, paths and scores are written for people."""

from __future__ import annotations

import math
from datetime import timedelta
from pathlib import Path

KEY_DIGITS = 8
"""Of a key: enough to name a configuration or a trial in its scan."""


def clock(seconds: float) -> str:
    """Return a duration as people write it: `0:00:07`, `1 day, 2:03:04`."""
    return str(timedelta(seconds=round(seconds)))


def count(number: int, noun: str) -> str:
    """Return a number of things: `1 trial`, `1,000 trials`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shortest(path: Path) -> Path:
    """Return `path` as seen from the working folder, where it lies in there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def mean_and_spread(mean: float, std: float) -> str:
    """Return a mean with its standard deviation, where there is one."""
    return f"{mean:.4f}" if math.isnan(std) else f"{mean:.4f} ± {std:.4f}"
