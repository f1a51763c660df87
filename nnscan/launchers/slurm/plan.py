"""How the trials of a launch become arrays of Slurm jobs: pure arithmetic on what the cluster allows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FILL = 0.8
"""Of its time that a bundle is planned to use, where it is known how long trials take."""

ROUNDS = 3
"""Bundles for each place, where trials are long: one that ends early then leaves its place to another."""

ROUND_SECONDS = 600.0
"""A shorter bundle is not worth its start of some seconds and its time in the queue."""

WORTH_SECONDS = 30.0
"""Of work that a bundle is started for, where the user does not say how many: its start takes ten."""

MOST_AT_ONCE = 256
"""Bundles that run at the same time unless the user says more: other people use the cluster, too."""


@dataclass(frozen=True)
class ArrayPlan:
    """Bundles to be submitted together."""

    bundles: tuple[tuple[int, int], ...]
    """First trial of each, and the one after its last."""
    at_once: int
    """Tasks that run at the same time."""
    minutes: int
    """Longest time of a task."""
    after: int = -1
    """The array, by its place in the plan, that must have ended before this one starts; -1: none."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """What there is for the jobs of a launch."""

    at_once: int
    """Bundles that run at the same time."""
    minutes: int
    """Longest time of a job."""
    array_size: int
    """Tasks of an array."""
    jobs: int | None = None
    """Jobs that may still be submitted; None: no limit."""
    trials_per_bundle: int = 0
    """As the user wants it; 0: as it comes."""


def plan(trials: int, seconds: float | None, space: Space) -> list[ArrayPlan]:
    """Return how trials are cut into arrays of bundles.

    Parameters
    ----------
    trials : int
        How many, at least 1.
    seconds : float or None
        What they take one after another; None where it is not known.
    space : Space
        What there is for them.
    """
    return arrays(cut(trials, _bundles(trials, seconds, space)), space)


def _bundles(trials: int, seconds: float | None, space: Space) -> int:
    """Return how many bundles there shall be: whole rounds of as many as run at once."""
    if space.trials_per_bundle:
        wanted = -(-trials // space.trials_per_bundle)
    else:
        each = (seconds or 0.0) / space.at_once
        needed = math.ceil(each / (FILL * space.minutes * 60))
        wanted = space.at_once * max(1, needed, min(ROUNDS, int(each / ROUND_SECONDS)))
    return max(1, min(trials, wanted, trials if space.jobs is None else space.jobs))


def cut(length: int, count: int) -> tuple[tuple[int, int], ...]:
    """Return `count` ranges that share `length` evenly, in order.

    Examples
    --------
    >>> cut(10, 3)
    ((0, 3), (3, 6), (6, 10))
    """
    return tuple(pairwise(place * length // count for place in range(count + 1)))


def arrays(bundles: Sequence[tuple[int, int]], space: Space) -> list[ArrayPlan]:
    """Return arrays of bundles, none larger than Slurm takes, of which `space.at_once` run at the same time in all.

    The arrays share that limit: they run side by side, each with a part of it; where there are more arrays than it
    has parts, they follow each other in chains.
    """
    at_once = min(space.at_once, len(bundles))
    least = -(-len(bundles) // space.array_size)
    chains = min(least, at_once)
    number = min(-(-least // chains) * chains, len(bundles))  # so that the chains are equally long
    return [
        ArrayPlan(
            tuple(bundles[start:stop]),
            at_once // chains + (place % chains < at_once % chains),
            space.minutes,
            place - chains if place >= chains else -1,
        )
        for place, (start, stop) in enumerate(cut(len(bundles), number))
    ]
