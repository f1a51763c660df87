"""The course of one trial: what its journal tells of it so far, and its row and epochs once they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nnscan.errors import StoreError
from nnscan.failure import TRIES
from nnscan.plan import read_settings
from nnscan.results import store
from nnscan.results.attempts import Attempt, attempts
from nnscan.results.folder import ScanFolder
from nnscan.results.highlights import Curve
from nnscan.results.journal import DETAILS, Journal, Row, names_in, parse
from nnscan.results.part import VanishedError, describe, read_groups
from nnscan.results.schema import TRIALS
from nnscan.results.tails import Tail, Tails
from nnscan.trial import Failure, Status

COLUMNS = (
    *("trial", "configuration", "family", "kind", "fold", "replicate", "epochs", "status", "failure", "error"),
    *("attempt", "score", "best_epoch", "epochs_run", "parameters", "seconds", "host", "device", "writer"),
    *("test_loss", "test_accuracy"),
)
"""Of trials/, as far as a course tells them."""

STEP_LINES = tuple(line for line in DETAILS if b"step" in line)
"""How the lines begin that tell of steps."""

ENDS = pa.schema({name: TRIALS[name] for name in ("trial", "status")})


@dataclass(frozen=True, kw_only=True)
class Course:
    """A trial as it goes."""

    trial: str
    state: str
    """"pending", "running", or how it ended: "completed", "diverged", "failed"."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """`COLUMNS`, those that are known."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Its hyperparameters; empty until an attempt began."""
    curve: Curve = field(default_factory=Curve)
    """All epochs of the attempt that counts, or of the one that began last."""

    @property
    def is_over(self) -> bool:
        """Whether it has a result."""
        return self.state in set(Status)


@dataclass
class _Tail(Tail):
    rows: list[Row] = field(default_factory=list)
    """Those about the trial, and the writer's own."""


class CourseFollower:
    """Follows one trial; reads what is new in the journals, and of the tables what became of the trial.

    Parameters
    ----------
    folder : ScanFolder
        Is read only.
    trial : str
        Its key, whole.
    """

    def __init__(self, folder: ScanFolder, trial: str) -> None:
        self._folder, self._trial = folder, trial
        self._needles = (trial.encode(), b'{"row": "writer"', b'{"row": "closed"', b'{"row": "ending"')
        self._tails = Tails(folder, _Tail)
        self._parts: set[str] = set()
        self._stored: Course | None = None

    def poll(self) -> Course:
        """Return how the trial goes, having read what is new; journals before parts, so that no end is missed."""
        self._read_journals()
        self._read_parts()
        begun = [attempt for tail in self._tails for attempt in self._attempts(tail)]
        running = [attempt for attempt, journal in begun if _runs(attempt, journal)]
        ended = [attempt for attempt, _ in begun if attempt.end]
        stored = self._stored
        if stored and stored.state in (Status.COMPLETED, Status.DIVERGED):
            return stored
        if running and not any(_succeeded(attempt) for attempt in ended):
            return _course(max(running, key=_start_time), "running")
        return _course(_standing(ended), "") if ended else stored or Course(trial=self._trial, state="pending")

    def _attempts(self, tail: _Tail) -> list[tuple[Attempt, Journal]]:
        return [(attempt, tail.journal) for attempt in attempts(tail.journal, tail.rows)]

    def _read_journals(self) -> None:
        for tail, lines in self._tails.read():
            for line in lines:
                self._take(tail, line)

    def _take(self, tail: _Tail, line: bytes) -> None:
        about = any(needle in line for needle in self._needles) and not line.startswith(STEP_LINES)
        row = parse(line) if about else None
        if row and not any(one["row"] == "closed" for one in tail.rows[-1:]):
            tail.rows.append(row)

    def _read_parts(self) -> None:
        names = {name for name in names_in(self._folder.trials) if name.endswith(".parquet")}
        if any(self._holds(name) for name in sorted(names - self._parts)):
            self._stored = _stored(self._folder, self._trial)
        self._parts = names

    def _holds(self, name: str) -> bool:
        key = pa.array([self._trial])
        try:
            groups = read_groups(describe(self._folder.trials / name), ENDS, trial=key)
            return any(self._trial in group["trial"].to_pylist() for group in groups)
        except VanishedError:
            return True  # compacted this moment: the table is read as a whole


def _runs(attempt: Attempt, journal: Journal) -> bool:
    return journal.cause is None and attempt.end is None and not attempt.interrupted


def _succeeded(attempt: Attempt) -> bool:
    return (attempt.end or {}).get("status") != Status.FAILED


def _start_time(attempt: Attempt) -> float:
    return float(attempt.start.get("time") or 0.0)


def _standing(ended: list[Attempt]) -> Attempt:
    """Return the attempt that stands (design rule 6), of those that journals tell."""

    def order(attempt: Attempt) -> tuple[bool, float, str]:
        row = attempt.end or {}
        failed, time = row.get("status") == Status.FAILED, float(row.get("time") or 0.0)
        return failed, -time if failed else time, attempt.place["writer"]

    return min(ended, key=order)


def _course(attempt: Attempt, state: str) -> Course:
    columns = attempt.columns()
    epochs = tuple(sorted(attempt.epochs))
    return Course(
        trial=attempt.trial,
        state=state or str(columns["status"]),
        row={name: columns[name] for name in COLUMNS if columns.get(name) is not None},
        settings=columns.get("settings") or {},
        curve=Curve(epochs, tuple(attempt.epochs[epoch] for epoch in epochs)),
    )


def _stored(folder: ScanFolder, trial: str) -> Course | None:
    """Return what the tables have of a trial, None where no attempt at it counts."""
    table = store.read_trials(folder, COLUMNS)
    rows = table.filter(pc.equal(table["trial"], trial)).to_pylist()
    if not rows or _is_repeated(rows[0]):
        return None
    epochs = store.read_epochs(folder, [trial]).sort_by("epoch").to_pylist()
    return Course(
        trial=trial,
        state=rows[0]["status"],
        row={name: value for name, value in rows[0].items() if value is not None},
        settings=_settings(folder, rows[0]["configuration"]),
        curve=Curve(tuple(one["epoch"] for one in epochs), tuple(epochs)),
    )


def _is_repeated(row: Row) -> bool:
    """Return whether a lost attempt is to be followed by another."""
    return bool(row["failure"] == Failure.LOST and row["attempt"] < TRIES)


def _settings(folder: ScanFolder, configuration: str) -> Mapping[str, Any]:
    with suppress(StoreError):  # a point that is no longer in the plan has none there either
        return read_settings(folder, [configuration]).get(configuration, {})
    return {}
