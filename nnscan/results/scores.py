"""The scores of a family as a matrix: a row a configuration, a column a (replicate, fold).

Joins the plan with the trials table. A million trials are joined in under a second, so everything here is arrays; text
is made for the few rows that are shown (`nnscan.results.summary`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.failure import TRIES
from nnscan.results.key_index import KeyIndex
from nnscan.results.selection import Flags, Floats, Integers
from nnscan.trial import Failure, Status


class State(IntEnum):
    """What became of a trial of the plan."""

    PENDING = 0
    RUNNING = 1
    COMPLETED = 2
    DIVERGED = 3
    FAILED = 4


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The plan, a row a (trial, family), with what the store has of each."""

    keys: pa.StringArray
    """Of the trials."""
    configurations: Integers
    """Code of each row's configuration."""
    configuration_keys: pa.StringArray
    """Of the configurations, by code."""
    families: Integers
    """Code of each row's family."""
    family_names: tuple[str, ...]
    """By code, as the plan has them."""
    folds: Integers
    replicates: Integers
    rows: Integers
    """Row of the trials table; -1 where there is none."""
    states: Integers
    """`State` of each row."""


@dataclass(frozen=True, kw_only=True)
class FamilyScores:
    """What is known of the C configurations of a family, each with a score for each of S pairs (replicate, fold)."""

    name: str
    keys: pa.StringArray
    """Of the configurations, in the order of the plan."""
    scores: Floats
    """(C, S); NaN where a trial has none."""
    planned: Flags
    """(C, S): whether the plan has that trial."""
    states: Integers
    """(C, 5): trials in each `State`."""
    rows: Integers
    """A row of the trials table that tells each configuration's hyperparameters; -1 where none has ended."""
    best_epochs: Floats
    """(C,): mean over the completed trials; NaN without."""
    seconds: Floats
    """(C,): mean of a completed trial; NaN without."""
    parameters: Integers
    """(C,); -1 where unknown."""

    @cached_property
    def n(self) -> Integers:
        """Trials that each configuration has in the plan."""
        count: Integers = self.planned.sum(axis=1)
        return count

    @cached_property
    def complete(self) -> Flags:
        """Configurations whose every trial has a score: only those can win."""
        done: Flags = (np.isfinite(self.scores) == self.planned).all(axis=1)
        return done

    @cached_property
    def means(self) -> Floats:
        """Mean of the scores there are; NaN without any."""
        counts = np.isfinite(self.scores).sum(axis=1)
        mean: Floats = np.nansum(self.scores, axis=1) / np.where(counts, counts, math.nan)
        return mean

    @cached_property
    def stds(self) -> Floats:
        """Sample standard deviation (ddof 1) of the scores there are; NaN for fewer than two."""
        counts = np.isfinite(self.scores).sum(axis=1)
        squares = np.nansum((self.scores - self.means[:, None]) ** 2, axis=1)
        std: Floats = np.sqrt(squares / np.where(counts > 1, counts - 1, math.nan))
        return std


@dataclass(frozen=True)
class Axis:
    """A hyperparameter that varies within a family."""

    path: str
    """Dotted, as its column is named."""
    values: tuple[Any, ...]
    """Numbers in ascending order, others in the order of the plan."""
    codes: Integers
    """Index into `values` of each configuration; -1 where it has no such option, or has not run yet."""


def join(plan: pa.Table, trials: pa.Table, *, running: Collection[str] = ()) -> Planned:
    """Return the plan with the row and the state of each trial; rows of points not in the plan are ignored.

    Parameters
    ----------
    plan : table
        Columns `key`, `configuration`, `family`, `fold`, `replicate`.
    trials : table
        One row a trial: `trial`, `status`, `failure`, `attempt`.
    running : collection of str
        Keys of trials that run now.
    """
    keys = _combined(plan["key"])
    configurations, configuration_keys = codes_of(plan["configuration"])
    families, names = codes_of(plan["family"])
    rows = KeyIndex(_combined(trials["trial"])).places(keys)
    return Planned(
        keys=keys,
        configurations=configurations,
        configuration_keys=configuration_keys,
        families=families,
        family_names=tuple(names.to_pylist()),
        folds=_integers(plan["fold"]),
        replicates=_integers(plan["replicate"]),
        rows=rows,
        states=_states(keys, rows, trials, running),
    )


def _states(keys: pa.StringArray, rows: Integers, trials: pa.Table, running: Collection[str]) -> Integers:
    states = np.append(ended_states(trials), State.PENDING)[rows]  # row -1 takes the last, appended one
    if running:
        started = pc.is_in(keys, value_set=pa.array(sorted(running), pa.string())).to_numpy(zero_copy_only=False)
        states[started & (states == State.PENDING)] = State.RUNNING
    return states


def ended_states(trials: pa.Table) -> Integers:
    """Return the `State` of each row of the trials table; a lost attempt that is to be repeated is PENDING."""
    codes, names = codes_of(trials["status"])
    known = {Status.COMPLETED: State.COMPLETED, Status.DIVERGED: State.DIVERGED, Status.FAILED: State.FAILED}
    states = np.array([known[Status(name)] for name in names.to_pylist()] or [State.PENDING], dtype=np.int64)[codes]
    failed = np.flatnonzero(states == State.FAILED)
    if len(failed):
        few = trials.select(["failure", "attempt"]).take(pa.array(failed))
        again = pc.and_(pc.equal(few["failure"], Failure.LOST.value), pc.less(few["attempt"], TRIES))
        states[failed[again.to_numpy()]] = State.PENDING
    return states


def family_scores(planned: Planned, family: int, trials: pa.Table, scores: Floats, best_epochs: Floats) -> FamilyScores:
    """Return the matrix of scores of one family.

    Parameters
    ----------
    planned : Planned
        What `join` returned for the same `trials`.
    family : int
        Index into `planned.family_names`.
    trials : table
        Columns `seconds` and `parameters`.
    scores, best_epochs : arrays
        One value a row of `trials`; NaN where there is none.
    """
    members = np.flatnonzero(planned.families == family)
    used = np.flatnonzero(np.bincount(planned.configurations[members], minlength=1))
    local = np.zeros(len(planned.configuration_keys), dtype=np.int64)
    local[used] = np.arange(len(used))
    return _Cells(
        configurations=local[planned.configurations[members]],
        slots=_slots(planned.folds[members], planned.replicates[members]),
        rows=planned.rows[members],
        states=planned.states[members],
        count=len(used),
    ).gather(planned.family_names[family], planned.configuration_keys.take(pa.array(used)), trials, scores, best_epochs)


def _slots(folds: Integers, replicates: Integers) -> Integers:
    """Number the pairs (replicate, fold)."""
    slots: Integers = replicates * (folds.max(initial=0) + 1) + folds
    return slots


@dataclass(frozen=True, kw_only=True)
class _Cells:
    """The trials of a family: where each stands in the matrix, and what became of it."""

    configurations: Integers
    slots: Integers
    rows: Integers
    states: Integers
    count: int

    def gather(
        self, name: str, keys: pa.StringArray, trials: pa.Table, scores: Floats, best_epochs: Floats
    ) -> FamilyScores:
        planned = np.zeros((self.count, self.slots.max(initial=0) + 1), dtype=bool)
        planned[self.configurations, self.slots] = True
        done = self._where(self.states == State.COMPLETED)
        matrix = np.full(planned.shape, math.nan)
        matrix[done.configurations, done.slots] = scores[done.rows]
        counts = np.bincount(self.configurations * len(State) + self.states, minlength=self.count * len(State))
        return FamilyScores(
            name=name,
            keys=keys,
            scores=matrix,
            planned=planned,
            states=counts.reshape(self.count, len(State)),
            rows=self._where(self.rows >= 0)._last_rows(),
            best_epochs=done._means(best_epochs),
            seconds=done._means(floats(trials["seconds"])),
            parameters=done._last(_integers(trials["parameters"], missing=-1)),
        )

    def _where(self, mask: Flags) -> _Cells:
        if mask.all():  # as at the end of most scans
            return self
        arrays = (self.configurations, self.slots, self.rows, self.states)
        configurations, slots, rows, states = (array[mask] for array in arrays)
        return _Cells(configurations=configurations, slots=slots, rows=rows, states=states, count=self.count)

    def _last_rows(self) -> Integers:
        """One row a configuration, of those of its trials; -1 where it has none."""
        found = np.full(self.count, -1, dtype=np.int64)
        found[self.configurations] = self.rows
        return found

    def _last(self, values: Integers) -> Integers:
        """One value a configuration, of those of its trials; -1 where it has none."""
        last: Integers = np.append(values, -1)[self._last_rows()]
        return last

    def _means(self, values: Floats) -> Floats:
        found = values[self.rows]
        known = np.isfinite(found)
        sums = np.bincount(self.configurations, weights=np.where(known, found, 0.0), minlength=self.count)
        counts = np.bincount(self.configurations, weights=known, minlength=self.count)
        mean: Floats = sums / np.where(counts, counts, math.nan)
        return mean


def axis(path: str, column: pa.ChunkedArray, rows: Integers) -> Axis | None:
    """Return how a hyperparameter varies over the configurations of a family; None where it does not.

    Parameters
    ----------
    path : str
        Name of the column.
    column : chunked array
        The hyperparameter in the trials table.
    rows : array of shape (C,)
        `FamilyScores.rows`.
    """
    known = np.flatnonzero(rows >= 0)
    found, names = codes_of(_comparable(column.take(pa.array(rows[known]))))
    used = np.flatnonzero(np.bincount(found[found >= 0], minlength=len(names)))
    if len(used) < 2:
        return None
    codes = np.full(len(rows), -1, dtype=np.int64)
    codes[known] = found
    return _ordered(path, column, codes, used, rows)


def _ordered(path: str, column: pa.ChunkedArray, codes: Integers, used: Integers, rows: Integers) -> Axis:
    """The axis with its values as Python has them, renumbered in their order."""
    present = np.flatnonzero(codes >= 0)
    firsts = np.full(codes.max() + 1, len(codes), dtype=np.int64)
    np.minimum.at(firsts, codes[present], present)
    by_plan = used[np.argsort(firsts[used], kind="stable")]
    values = [column[int(rows[firsts[code]])].as_py() for code in by_plan]
    if all(isinstance(value, (bool, int, float)) for value in values):
        order = sorted(range(len(values)), key=values.__getitem__)
    else:
        order = list(range(len(values)))
    renumbered = np.full(codes.max() + 2, -1, dtype=np.int64)  # the last stands for code -1
    renumbered[by_plan[order]] = np.arange(len(order))
    return Axis(path, tuple(values[index] for index in order), renumbered[codes])


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column itself, or its lists as text: Arrow numbers distinct scalars only."""
    if not pa.types.is_list(column.type):
        return column
    return pa.chunked_array(
        [pc.binary_join(pc.cast(chunk, pa.list_(pa.string())), "\x1f") for chunk in column.chunks], pa.string()
    )


def codes_of(column: pa.ChunkedArray | pa.Array) -> tuple[Integers, pa.Array]:
    """Return for each element an index into the distinct values (-1 of a null), and those values.

    Of a dictionary those that no element has are left out: rows that were filtered keep the whole.
    """
    if isinstance(column, pa.ChunkedArray) and pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    array = _combined(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    codes = _integers(array.indices, missing=-1)
    used = np.zeros(len(array.dictionary) + 1, dtype=bool)
    used[codes] = True  # a null marks the last
    if used[:-1].all():
        return codes, array.dictionary
    places = np.append(np.cumsum(used[:-1]) - 1, -1)
    return places[codes], array.dictionary.filter(pa.array(used[:-1]))


def floats(column: pa.ChunkedArray) -> Floats:
    """Return a column of numbers as an array, NaN for null."""
    array: Floats = np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)
    return array


def own_seconds(seconds: Floats, fused: Floats) -> Floats:
    """Return what each trial took of its worker's time, which it shared with those that it was trained with.

    Rows older than the column `fused` have NaN there: each was trained alone.
    """
    return seconds / np.where(fused > 1, fused, 1)


def _integers(column: pa.ChunkedArray | pa.Array, missing: int = 0) -> Integers:
    filled = _combined(column).fill_null(missing)
    array: Integers = filled.to_numpy(zero_copy_only=False).astype(np.int64)
    return array


def _combined(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    if not isinstance(column, pa.ChunkedArray):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
