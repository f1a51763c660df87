"""What became of each trial of a plan, kept in arrays: 40 bytes a trial of the plan, however many have finished."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.results.scores import State, codes_of
from nnscan.results.selection import Flags, Floats, Integers

Keys = npt.NDArray[np.bytes_]
"""Keys of trials."""

_NO_KEYS = np.array([], dtype="S32")


@dataclass(frozen=True)
class Best:
    """The configuration that leads a family so far."""

    configuration: str
    """Key."""
    mean: float
    """Of its scores."""
    scored: int
    """Its trials with a score."""
    n: int
    """Its trials."""


class Tally:
    """What became of each trial of a plan; sums a configuration.

    An end that was counted is not counted again: a trial that completed or diverged stays so, and one that failed
    changes only if it succeeds later.
    """

    def __init__(self, plan: pa.Table) -> None:
        keys = np.concatenate([np.array(chunk.to_pylist(), dtype="S32") for chunk in plan["key"].chunks] or [_NO_KEYS])
        self._keys, firsts = np.unique(keys, return_index=True)
        configurations, self._names = codes_of(plan["configuration"])
        families, names = codes_of(plan["family"])
        self._configurations = configurations[firsts].astype(np.int32)
        self._states = np.full(len(firsts), State.PENDING, dtype=np.int8)
        self.members = {
            name: np.unique(configurations[families == code]) for code, name in enumerate(names.to_pylist())
        }
        size = len(self._names)
        self._counts = np.zeros((size, len(State)), dtype=np.int32)
        self._counts[:, State.PENDING] = np.bincount(self._configurations, minlength=size)
        self._scores, self._scored = np.zeros(size), np.zeros(size, dtype=np.int32)
        self._seconds, self._timed = np.zeros(size), np.zeros(size, dtype=np.int32)

    def end(self, trials: Keys, states: Integers, scores: Floats, seconds: Floats) -> None:
        """Take ends in: an element a trial; those that are not of the plan are ignored."""
        trials, firsts = np.unique(trials, return_index=True)
        places, known = self.find_all(trials)
        places, rows = places[known], firsts[known]
        news = self._better(self._states[places], states[rows])
        self._move(places[news], states[rows[news]])
        completed = news & (states[rows] == State.COMPLETED)
        members = self._configurations[places[completed]]
        _add(self._scores, self._scored, members, scores[rows[completed]])
        _add(self._seconds, self._timed, members, seconds[rows[completed]])

    def counts(self, running: Sequence[str]) -> Integers:
        """Return how many trials of each configuration are in each state, those that run now taken into account."""
        counts = self._counts.astype(np.int64)
        places, known = self.find_all(np.unique(np.array(running, dtype="S")))
        for place in places[known]:
            state = self._states[place]
            if state in (State.PENDING, State.FAILED):  # a failed one that runs is tried again
                counts[self._configurations[place], [state, State.RUNNING]] += (-1, 1)
        return counts

    def seconds_of_work(self, counts: Integers) -> float:
        """Return how long one worker takes for what is left, half of each running trial counted; NaN where unknown.

        A trial takes what its configuration took so far, else its family, else all.
        """
        typical = np.full(len(counts), _ratio(self._seconds.sum(), self._timed.sum()))
        for members in self.members.values():
            mean = _ratio(self._seconds[members].sum(), self._timed[members].sum())
            typical[members] = typical[members] if math.isnan(mean) else mean
        own = self._timed > 0
        typical[own] = self._seconds[own] / self._timed[own]
        left = counts[:, State.PENDING] + 0.5 * counts[:, State.RUNNING]
        return float((typical * left).sum())

    def leaders(self, family: str, counts: Integers, *, smallest: bool, top: int) -> list[Best]:
        """Return the best configurations of a family: complete ones first, then those that lack a score, best first."""
        members = self.members[family]
        scored = members[self._scored[members] > 0]
        complete = self._scored[scored] == counts[scored].sum(axis=1)
        means = self._scores[scored] / self._scored[scored]
        order = np.lexsort((means if smallest else -means, ~complete))[:top]
        places = zip(scored[order], means[order], strict=True)
        return [self._best(int(place), float(mean), counts) for place, mean in places]

    def best(self, family: str, counts: Integers, *, smallest: bool) -> Best | None:
        """Return the best of a family: of its complete configurations, of all while none is; None without a score."""
        members = self.members[family]
        scored = members[self._scored[members] > 0]
        complete = scored[self._scored[scored] == counts[scored].sum(axis=1)]
        candidates = complete if len(complete) else scored
        if not len(candidates):
            return None
        means = self._scores[candidates] / self._scored[candidates]
        index = means.argmin() if smallest else means.argmax()
        return self._best(int(candidates[index]), float(means[index]), counts)

    def _best(self, place: int, mean: float, counts: Integers) -> Best:
        return Best(self._names[place].as_py(), mean, int(self._scored[place]), int(counts[place].sum()))

    def members_of(self, configuration: str) -> Integers:
        """Return the places of a configuration's trials; none where the plan does not have it."""
        place = pc.index(self._names, configuration).as_py()
        found: Integers = np.flatnonzero(self._configurations == place)
        return found

    def find(self, trial: str) -> int | None:
        """Return the place of a trial in the plan, from 0 on; None where it is not of the plan."""
        places, known = self.find_all(np.array([trial], dtype="S"))
        return int(places[0]) if known[0] else None

    def key(self, place: int) -> str:
        """Return the key of the trial at that place."""
        return bytes(self._keys[place]).decode()

    def state(self, place: int) -> State:
        """Return what became of the trial at that place, as far as ends tell."""
        return State(int(self._states[place]))

    def __len__(self) -> int:
        """Return how many trials the plan has, each once."""
        return len(self._keys)

    def find_all(self, trials: Keys) -> tuple[Integers, Flags]:
        """Return the place of each trial, and whether it is one of the plan."""
        places = np.searchsorted(self._keys, trials)
        places[places == len(self._keys)] = 0
        known = self._keys[places] == trials if len(self._keys) else np.zeros(len(trials), dtype=bool)
        return places, known

    def _better(self, old: npt.NDArray[np.int8], new: Integers) -> Flags:
        """Whether an end says more than what is known: anything of a pending trial, a success of a failed one."""
        succeeded = (new == State.COMPLETED) | (new == State.DIVERGED)
        better: Flags = np.where(old == State.PENDING, new != State.PENDING, (old == State.FAILED) & succeeded)
        return better

    def _move(self, places: Integers, states: Integers) -> None:
        members = self._configurations[places]
        np.subtract.at(self._counts, (members, self._states[places]), 1)
        np.add.at(self._counts, (members, states), 1)
        self._states[places] = states


def _add(sums: Floats, counts: npt.NDArray[np.int32], members: npt.NDArray[np.int32], values: Floats) -> None:
    known = np.isfinite(values)
    np.add.at(sums, members[known], values[known])
    np.add.at(counts, members[known], 1)


def _ratio(total: float, count: int) -> float:
    return total / count if count else math.nan
