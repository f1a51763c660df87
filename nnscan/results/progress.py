"""How far a scan is, read off its journals as they grow: for the live display, `status` and whoever watches from afar.

A `Follower` reads only what is new, so it may look several times a second. What it keeps grows with the
plan, and not with what has finished.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.plan import read_columns
from nnscan.results.asked import asked
from nnscan.results.folder import ScanFolder
from nnscan.results.highlights import Details, Highlights
from nnscan.results.journal import DETAILS, Row, parse
from nnscan.results.metric import smallest_wins
from nnscan.results.part import describe, read_groups
from nnscan.results.schema import TRIALS
from nnscan.results.scores import State, ended_states, floats, own_seconds
from nnscan.results.selection import Floats, Integers
from nnscan.results.tails import Parts, Tail, Tails
from nnscan.results.tally import Tally
from nnscan.trial import Status

PLAN_COLUMNS = ("key", "configuration", "family")
"""Of plan.parquet, as far as a follower reads it."""

_COUNTED = ("trial", "status", "failure", "attempt", "metric", "score", "seconds", "fused")
"""Columns of trials/ that counts are made of."""

_ENDED = {Status.COMPLETED: State.COMPLETED, Status.DIVERGED: State.DIVERGED, Status.FAILED: State.FAILED}


@dataclass(frozen=True, kw_only=True)
class FamilyProgress:
    """How far a family is."""

    name: str
    total: int
    completed: int
    diverged: int
    failed: int
    running: int
    pending: int
    best: float | None
    """Best mean score of a configuration: of the complete ones, of all while none is complete; None without a score."""
    configuration: str
    """Key of that configuration, "" without."""
    scored: int
    """Its trials with a score."""
    n: int
    """Its trials."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a scan is. A trial in two families counts once here, and in both families."""

    total: int
    completed: int
    diverged: int
    failed: int
    running: int
    pending: int
    families: tuple[FamilyProgress, ...]
    metric: str
    seconds: float
    """Since the follower began."""
    seconds_left: float | None
    """From what finished trials took and how many workers run; None while either is nothing."""
    highlights: Highlights | None = None
    """Best configurations, running trials, failures: where the follower was asked for them."""

    @property
    def ended(self) -> int:
        """Trials with a result, whatever it is."""
        return self.completed + self.diverged + self.failed


@dataclass
class _Tail(Tail):
    """What is known of a journal: how far it was read, and which trials its writer is in: several where fused."""

    trials: set[str] = field(default_factory=set)
    closed: bool = False
    """A row said so: nothing behind it counts."""


class Follower:
    """Follows the trials of a plan in a scan folder; any number may follow, from anywhere that sees the folder.

    Parameters
    ----------
    folder : ScanFolder
        Is read only.
    plan : table, optional
        `PLAN_COLUMNS` of the trials to follow; without it, those of `plan.parquet`.
    metric : str
        The scan's; "" for the one in its scan file.
    details : bool
        Whether to tell highlights, too: the rows of epochs are read for them.
    """

    def __init__(
        self, folder: ScanFolder, plan: pa.Table | None = None, metric: str = "", *, details: bool = False
    ) -> None:
        self._metric = metric or asked(folder).metric
        self._tally = Tally(read_columns(folder, PLAN_COLUMNS) if plan is None else plan)
        self._details = Details(folder, self._tally, self._metric) if details else None
        self._columns = pa.schema({name: TRIALS[name] for name in (*_COUNTED, *(Details.COLUMNS if details else ()))})
        self._tails = Tails(folder, _Tail)
        self._parts = Parts(folder)
        self._began = time.monotonic()

    def poll(self) -> Progress:
        """Return how far the trials are, having read what is new.

        Journals before parts: a journal is removed after its part is there, so no end is missed. An end that is met
        twice (in both, or in two attempts at a bundle) changes nothing.
        """
        self._read_journals()
        self._parts.read(self._read_part)
        return self._progress()

    def leading(self, top: int) -> set[str]:
        """Return the `top` best configurations of each family, by what was read so far."""
        counts, smallest = self._tally.counts([]), smallest_wins(self._metric)
        families = (self._tally.leaders(name, counts, smallest=smallest, top=top) for name in self._tally.members)
        return {best.configuration for family in families for best in family}

    def _read_journals(self) -> None:
        for tail, lines in self._tails.read():
            for line in lines:
                if not tail.closed:
                    self._read_line(tail, line)

    def _read_line(self, tail: _Tail, line: bytes) -> None:
        if not line.startswith(DETAILS):
            self._take(tail, parse(line) or {"row": ""})
        elif self._details:
            self._details.add(line)

    def _take(self, tail: _Tail, row: Row) -> None:
        match row["row"]:
            case "start":
                tail.trials.add(row["trial"])
                if self._details:
                    self._details.begin(row)
            case "end":
                tail.trials.discard(row["trial"])
                self._end(row)
            case "interrupted":
                tail.trials.discard(row["trial"])
            case "closed":
                tail.closed = True

    def _end(self, row: Row) -> None:
        score = row.get("score") if row.get("metric") == self._metric else None
        trial = np.array([row["trial"]], dtype="S")
        state = np.array([_ENDED[Status(row["status"])]], dtype=np.int64)
        self._tally.end(trial, state, _one(score), own_seconds(_one(row.get("seconds")), _one(row.get("fused"))))
        if self._details:
            self._details.end(row)

    def _read_part(self, path: Path) -> None:
        for table in read_groups(describe(path), self._columns):
            same = pc.equal(table["metric"], self._metric).fill_null(False).to_numpy()
            scores = np.where(same, floats(table["score"]), math.nan)
            trials = np.array(table["trial"].to_pylist(), dtype="S")
            self._tally.end(
                trials, ended_states(table), scores, own_seconds(floats(table["seconds"]), floats(table["fused"]))
            )
            if self._details:
                self._details.take_part(table)

    def _progress(self) -> Progress:
        writing = [tail for tail in self._tails if tail.journal.cause is None and not tail.closed]
        smallest = smallest_wins(self._metric)
        running = [trial for tail in writing for trial in tail.trials]
        counts = self._tally.counts(running)
        left = self._tally.seconds_of_work(counts)
        return Progress(
            **_named(counts.sum(axis=0)),
            families=tuple(_family(self._tally, name, counts, smallest) for name in self._tally.members),
            metric=self._metric,
            seconds=time.monotonic() - self._began,
            seconds_left=left / len(writing) if writing and math.isfinite(left) else None,
            highlights=self._details.look(running, counts) if self._details else None,
        )


def _family(tally: Tally, name: str, counts: Integers, smallest: bool) -> FamilyProgress:
    best = tally.best(name, counts, smallest=smallest)
    return FamilyProgress(
        name=name,
        **_named(counts[tally.members[name]].sum(axis=0)),
        best=best.mean if best else None,
        configuration=best.configuration if best else "",
        scored=best.scored if best else 0,
        n=best.n if best else 0,
    )


def _one(value: float | None) -> Floats:
    return np.array([math.nan if value is None else value])


def _named(counts: Integers) -> dict[str, int]:
    """Counts by the names of the states, and in all."""
    return {"total": int(counts.sum()), **{state.name.lower(): int(counts[state]) for state in State}}
