"""What the rows of a journal tell: attempts at trials, and those that ended as rows of the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any

import pyarrow as pa

from nnscan.identity import completed
from nnscan.results.journal import Cause, Journal, Row
from nnscan.results.schema import EPOCHS_FIRST, EPOCHS_LAST, TRIALS, Schemas, leaves, text_of
from nnscan.trial import Failure, Status

MEMORY_TRIES = 2
"""Attempts that a memory limit may end: the second has the memory for itself, a third would end alike."""


@dataclass
class Attempt:
    """What one writer made of one trial; filled in as its rows are read."""

    place: Row
    """The journal's first row: who wrote it, where, with what; and its rows `ending` and `died`, where it has them."""
    start: Row
    end: Row | None = None
    interrupted: bool = False
    epochs: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    """Metrics by epoch."""
    steps: list[Row] = field(default_factory=list)
    """Its rows `steps`, each of an epoch; or `step`, each of one value, as nnscan once wrote them."""
    last_time: float | None = None
    """Of its last row with a time, unix seconds."""

    @property
    def trial(self) -> str:
        """The trial's key."""
        return str(self.start["trial"])

    @property
    def number(self) -> int:
        """How many attempts at the trial counted before this one, and one."""
        return int(self.start.get("attempt", 1))

    @property
    def excused(self) -> bool:
        """Whether its allocation was ending: where it has no end, it is as if it had not been."""
        return "ending" in self.place and not self.place.get("died", {}).get("by_itself")

    def columns(self) -> Row:
        """Return the fixed columns of its row in trials/."""
        families = self.start.get("families") or [None]
        own = {"family": families[0], "bundle": self.place["bundle"], "writer": self.place["writer"]}
        return {**self.place, **self.start, **(self.end or {}), **own, **self._times()}

    def metrics(self) -> Row:
        """Return the metrics at its best epoch, as its end row has them."""
        metrics: Row = (self.end or {}).get("metrics", {})
        return metrics

    def _times(self) -> dict[str, int | None]:
        return {"started": _microseconds(self.start.get("time")), "ended": _microseconds((self.end or {}).get("time"))}


def _microseconds(seconds: Any) -> int | None:
    return round(seconds * 1e6) if isinstance(seconds, int | float) and math.isfinite(seconds) else None


def attempts(journal: Journal, rows: Iterable[Row]) -> list[Attempt]:
    """Return the attempts that the rows of a journal tell, in the order of their start rows.

    Rows of a trial whose start row is not there (torn) are left out: the trial runs again.
    """
    place: Row = {"bundle": journal.bundle, "writer": journal.writer}
    found: list[Attempt] = []
    open_: dict[str, Attempt] = {}
    for row in filter(_sound, rows):
        trial = row.get("trial")
        if row["row"] == "writer":
            place.update(row, bundle=journal.bundle, writer=journal.writer)
        elif row["row"] == "start" and isinstance(trial, str):
            open_[trial] = Attempt(place, row)
            found.append(open_[trial])
        elif trial in open_:
            _add(open_[trial], row)
            if row["row"] in ("end", "interrupted"):
                del open_[trial]
        elif row["row"] in ("ending", "died"):
            place[row["row"]] = row
    return found


_NEEDED = {
    "writer": (),
    "start": ("trial",),
    "epoch": ("trial", "epoch", "metrics"),
    "step": ("trial",),
    "steps": ("trial", "epoch", "values"),
    "interrupted": ("trial",),
    "ending": (),
    "died": ("error",),
    "end": ("trial", "status"),
}
"""What each kind of row must have."""

_KINDS: dict[str, type | UnionType] = {
    "trial": str,
    "attempt": int,
    "settings": dict,
    "families": list,
    "epoch": int,
    "metrics": dict,
    "values": dict,
    "status": str,
}
"""What that must be, where a row has it."""


def _sound(row: Row) -> bool:
    """Return whether a row can be taken for what it says it is: a damaged page can hold anything that parses."""
    needed = _NEEDED.get(row["row"]) if isinstance(row["row"], str) else None
    if needed is None or not all(name in row for name in needed):
        return False
    return all(isinstance(row[name], kind) for name, kind in _KINDS.items() if name in row)


def _add(attempt: Attempt, row: Row) -> None:
    attempt.last_time = row.get("time", attempt.last_time)
    match row["row"]:
        case "epoch":
            attempt.epochs[row.get("epoch", 0)] = row.get("metrics", {})
        case "step" | "steps":
            attempt.steps.append(row)
        case "end":
            attempt.end = row
        case "interrupted":
            attempt.interrupted = True


def ended(journal: Journal, rows: Iterable[Row]) -> list[Attempt]:
    """Return the attempts that count, one a trial: those that ended, and what a lost writer left unfinished.

    Of several at one trial the first that succeeded stands, else the last: design rule 6, within a writer.
    """
    best: dict[str, Attempt] = {}
    succeeded: set[str] = set()
    for attempt in attempts(journal, rows):
        if attempt.end is None and journal.cause is Cause.LOST and not attempt.interrupted and not attempt.excused:
            attempt.end = _lost(attempt)
        if attempt.end and attempt.trial not in succeeded:
            best[attempt.trial] = attempt
            if attempt.end["status"] != Status.FAILED:
                succeeded.add(attempt.trial)
    return list(best.values())


def _lost(attempt: Attempt) -> Row:
    death = attempt.place.get("died", {})
    error = f"the worker on {attempt.place.get('host', 'an unknown host')} died in attempt {attempt.number} at it"
    repeated = death.get("out_of_memory") and attempt.number >= MEMORY_TRIES
    return {
        "status": Status.FAILED.value,
        "failure": (Failure.OUT_OF_MEMORY if repeated else Failure.LOST).value,
        "error": f"{error}: {death['error']}" if death else error,
        "traceback": str(death.get("traceback", "")),
        "time": attempt.start.get("time") if attempt.last_time is None else attempt.last_time,
    }


def trials_table(attempts: Sequence[Attempt], schema: pa.Schema) -> pa.Table:
    """Return a row an attempt, with the columns of `schema`: all of trials/, or some."""
    text = {field.name for field in schema if field.type == pa.string()}
    return _table([_trial_row(attempt, text) for attempt in attempts], schema)


def _trial_row(attempt: Attempt, text: Collection[str]) -> Row:
    """Return the row of an attempt; `text` are the columns that hold strings."""
    columns = attempt.columns()
    fixed = {name: value for name, value in columns.items() if name in TRIALS}
    return {**_hyperparameters(columns.get("settings") or {}, text), **attempt.metrics(), **fixed}


def _hyperparameters(settings: Mapping[str, Any], text: Collection[str]) -> Row:
    found = leaves(completed(settings))
    return {path: text_of(value) if path in text and value is not None else value for path, value in found}


def epochs_table(attempts: Iterable[Attempt], schema: pa.Schema) -> pa.Table:
    """Return a row an attempt and epoch, with the columns of `schema`: all of epochs/, or some."""
    return _table([row for attempt in attempts for row in _epoch_rows(attempt)], schema)


def _epoch_rows(attempt: Attempt) -> Iterator[Row]:
    columns = attempt.columns()
    fixed = {name: columns.get(name) for name in (*EPOCHS_FIRST, *EPOCHS_LAST)}
    for epoch in sorted(attempt.epochs):
        yield {**attempt.epochs[epoch], **fixed, "epoch": epoch}


def steps_table(attempts: Iterable[Attempt], schema: pa.Schema) -> pa.Table:
    """Return a row a value of a step, with the columns of `schema`: all of steps/, or some."""
    return pa.concat_tables([_table([], schema), *(part for one in attempts for part in _step_parts(one, schema))])


def _step_parts(attempt: Attempt, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the values of an attempt in tables, in the order of its rows."""
    fixed = {"attempt": attempt.number, "writer": attempt.place["writer"]}
    for row in attempt.steps:
        yield _table([{**row, **fixed}], schema) if row["row"] == "step" else _steps_of(row, fixed, schema)


def _steps_of(row: Row, fixed: Row, schema: pa.Schema) -> pa.Table:
    """Return a row a value of an epoch, column by column: it may have tens of thousands."""
    lists = [(name, values) for name, values in row["values"].items() if isinstance(values, list)]
    columns = {
        "name": _array([name for name, values in lists for _ in values], pa.string()),
        "step": pa.array([place for _, values in lists for place in range(len(values))], pa.int64()),
        "value": _array([value for _, values in lists for value in values], pa.float64()),
    }
    same = {field.name: _array([{**row, **fixed}.get(field.name)], field.type)[0] for field in schema}
    count = len(columns["value"])
    filled = {name: columns[name] if name in columns else pa.repeat(one, count) for name, one in same.items()}
    return pa.Table.from_arrays(list(filled.values()), schema=schema)


TABLES: dict[str, Callable[[Sequence[Attempt], pa.Schema], pa.Table]] = {
    "epochs": epochs_table,
    "steps": steps_table,
    "trials": trials_table,
}
"""How attempts become rows of each table, in the order in which parts are put in place: a trial that is seen in trials/
has its epochs."""


def schema_of(table: str, schemas: Schemas) -> pa.Schema:
    """Return the schema of the table so called."""
    return getattr(schemas, table)


def _table(rows: Sequence[Row], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays(
        [_array([row.get(field.name) for row in rows], field.type) for field in schema], schema=schema
    )


def _array(values: list[Any], type_: pa.DataType) -> pa.Array:
    """Return a column; a value that its type does not hold is null, so that one odd row cannot keep back the others."""
    try:
        return pa.array(values, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return pa.array([value if _fits(value, type_) else None for value in values], type_)


def _fits(value: Any, type_: pa.DataType) -> bool:
    try:
        pa.scalar(value, type_)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False
    return True
