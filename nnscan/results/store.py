"""The tables of a scan folder: how journals become parts of them, and how they are read.

Any number of writers, sealers, readers and one compaction work at the same time; what makes that safe:

- A journal is sealed into parts of its own name; the same journal gives the same rows, so doing it twice is harmless.
- Parts are put in place whole, trials/ last, and only then the journal is removed. A reader reads journals before it
  lists parts, and starts again when a file vanished under it: so it never misses a trial that an earlier reading saw.
- Of several attempts at a trial one stands (`nnscan.results.choice`), in trials/ and in epochs/.
"""

from __future__ import annotations

import difflib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from nnscan.errors import StoreError
from nnscan.results.attempts import TABLES, Attempt, attempts, ended, schema_of, trials_table
from nnscan.results.choice import DECIDING, ENCODED, OF_ATTEMPT, Chosen, Mask, standing
from nnscan.results.folder import ScanFolder, remedy
from nnscan.results.journal import (
    DETAILS,
    Cause,
    Death,
    Journal,
    Row,
    Writer,
    append_closed,
    append_death,
    close,
    counted,
    journals,
    read_rows,
)
from nnscan.results.part import (
    Part,
    VanishedError,
    conform,
    describe,
    parts,
    read_groups,
    read_part,
    reduce_groups,
    stacked,
    write_part,
)
from nnscan.results.schema import TRIALS, Schemas, hyperparameters, read_schemas, told_by, unify, write_schemas
from nnscan.trial import Failure, Kind

PAUSES_SECONDS = (0.0, 0.01, 0.02, 0.05, *(0.1,) * 40)
"""Between readings that a file vanished under: sealing and compaction are over in well under a second each."""

T = TypeVar("T")


# ---- writing and sealing ----


@contextmanager
def writing(folder: ScanFolder, bundle: str, place: Mapping[str, Any]) -> Iterator[Writer]:
    """Write a bundle in this block; at its end, however it comes, the journal is sealed if nobody has taken it away."""
    writer = Writer(folder, bundle, place)
    try:
        yield writer
    finally:
        closed = writer.close()
        if closed:
            seal(folder, closed)


def close_journals(folder: ScanFolder, select: Callable[[str], bool], cause: Cause, death: Death | None = None) -> None:
    """Close and seal the journals of the bundles whose names `select` takes, and seal those that lie there closed.

    Their writers, where they still live, end at their next look. Who takes over a bundle calls this first, with how
    the writers died where it knows. StoreError where a part cannot be written: the journal stays, and the next call
    does the same again.
    """
    for journal in journals(folder):
        if select(journal.bundle):
            closed = journal if journal.cause else _closed(journal, cause, death)
            if closed:
                seal(folder, closed)


def _closed(journal: Journal, cause: Cause, death: Death | None) -> Journal | None:
    if death:
        with suppress(FileNotFoundError):  # someone else was first
            append_death(journal.path, death)
    return close(journal, cause)


def seal_all(folder: ScanFolder) -> None:
    """Seal every journal that was closed, by a sealer that did not come to its end."""
    for journal in journals(folder):
        if journal.cause:
            seal(folder, journal)


def seal(folder: ScanFolder, journal: Journal) -> None:
    """Turn a closed journal into parts, then remove it; nothing happens where another sealer has done it.

    Epochs and steps of ended attempts only; a journal without any leaves no part.
    """
    try:
        _put(folder, journal.name, ended(journal, _closed_rows(journal.path)))
        journal.path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"cannot seal {journal.path}: {error.strerror or error}. It stays. {remedy(error)}, then launch again."
        ) from error


def _closed_rows(path: Path) -> list[Row]:
    rows, offset = read_rows(path)
    taken, is_closed = counted(rows)
    if is_closed:
        return taken
    append_closed(path)  # its writer may live on: from here on all sealers take the same rows
    return counted(taken + read_rows(path, offset)[0])[0]


def _put(folder: ScanFolder, name: str, found: Sequence[Attempt]) -> None:
    """Write the parts called `name`; again where a launch widened the schema meanwhile and did not see them."""
    written = None
    while found and written != (schemas := read_schemas(folder) or _schemas_of(found)):
        for table, rows_of in TABLES.items():
            schema = schema_of(table, schemas)
            rows = rows_of(found, schema)
            if len(rows):
                write_part(folder.path / table / f"{name}.parquet", [rows], schema)
        written = schemas


def _schemas_of(found: Iterable[Attempt]) -> Schemas:
    """Return the schemas that attempts need: where `schema.json` was lost; the next launch unifies them."""
    found = list(found)
    settings = [attempt.start.get("settings") or {} for attempt in found]
    metrics = {name: None for attempt in found for row in attempt.epochs.values() for name in row}
    return Schemas.of(hyperparameters(settings), metrics)


# ---- reading ----


def read_trials(folder: ScanFolder, columns: Sequence[str] | None = None, encoded: Sequence[str] = ()) -> pa.Table:
    """Return the table of trials: a row for each that ended, those in journals included.

    Parameters
    ----------
    folder : ScanFolder
        May be read at any time, whoever writes.
    columns : sequence of str, optional
        Names of columns (`nnscan.results.schema`); all without it. Only these are read.
    encoded : sequence of str
        Columns of text that come as dictionaries: where values are few, that takes a fifth of the time.

    Raises
    ------
    StoreError
        Where a part is damaged: the text names it.
    ValueError
        Where there is no such column.
    """
    return steadily(folder, lambda: _trials(folder, columns, encoded))


def read_epochs(
    folder: ScanFolder, trials: Iterable[str] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the table of epochs: of each ended trial those of the attempt that stands; of `trials` only, if given."""
    return steadily(folder, lambda: _attempt_rows(folder, "epochs", _keys(trials), columns))


def reduce_epochs(folder: ScanFolder, columns: Sequence[str], reduce: Callable[[pa.Table], pa.Table]) -> pa.Table:
    """Return the rows that `reduce` leaves of each piece of the table of epochs: so tens of millions need no memory.

    Parameters
    ----------
    columns : sequence of str
        What is returned; `trial` is a dictionary of all trials that ended.
    reduce : function
        Called in several threads, with a table that has `writer` too: both are dictionaries. Rows of one attempt stand
        beside each other, may be in several pieces, and come twice where a part is being compacted; of a trial there
        may be several attempts, of which the one that stands is returned.
    """
    return steadily(folder, lambda: _reduced_epochs(folder, columns, reduce))


def read_steps(
    folder: ScanFolder, trials: Iterable[str] | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Return the table of steps, as `read_epochs` does: a row a trial, step and name."""
    return steadily(folder, lambda: _attempt_rows(folder, "steps", _keys(trials), columns))


def _keys(trials: Iterable[str] | None) -> pa.Array | None:
    return None if trials is None else pa.array(list(trials), pa.string())


def steadily(folder: ScanFolder, do: Callable[[], T]) -> T:
    """Return what `do` returns; it starts again where a file vanished under it. StoreError where that does not end."""
    for pause in PAUSES_SECONDS:
        time.sleep(pause)
        try:
            return do()
        except VanishedError as error:
            vanished = error
    raise StoreError(
        f"{folder.path} changed in each of {len(PAUSES_SECONDS)} readings, last {vanished} vanished. Try again; if this"
        " stays, something other than nnscan removes files there."
    )


def _trials(folder: ScanFolder, columns: Sequence[str] | None, encoded: Sequence[str]) -> pa.Table:
    found = _ended(journals(folder))  # journals before parts: a trial moves from the one to the other
    listed = parts(folder.trials)
    schema = _schema(folder, "trials", listed)
    wanted = _encoded(_project(schema, columns), encoded)
    if not found and all(part.compacted for part in listed):
        return stacked(wanted, (read_part(part, wanted) for part in listed)).unify_dictionaries()
    read = pa.schema([*wanted, *(field for field in DECIDING if field.name not in wanted.names)])
    plain = pa.schema([schema.field(name) for name in read.names])
    ended = conform(trials_table(found, plain), read)
    table = pa.concat_tables([ended, *(read_part(part, read) for part in listed)]).unify_dictionaries()
    mask = standing(table)
    return (table if mask is None else table.filter(pa.array(mask))).select(wanted.names)


def _encoded(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    """Return `schema` with these columns as dictionaries."""
    return pa.schema([pa.field(f.name, pa.dictionary(pa.int32(), f.type)) if f.name in names else f for f in schema])


def _ended(listed: Iterable[Journal], *, details: bool = False) -> list[Attempt]:
    """Return the attempts in journals that count; without `details` epochs and steps may be left out."""
    return [attempt for journal in listed for attempt in ended(journal, _rows(journal, details=details))]


def _rows(journal: Journal, *, details: bool) -> list[Row]:
    whole = details or journal.cause is not None  # when a lost writer was last heard of, its epochs say
    try:
        return counted(read_rows(journal.path, skip=() if whole else DETAILS)[0])[0]
    except FileNotFoundError as error:
        raise VanishedError(journal.path) from error
    except OSError as error:
        raise StoreError(f"cannot read {journal.path}: {error.strerror or error}. Check its rights.") from error


def _schema(folder: ScanFolder, table: str, listed: Iterable[Part]) -> pa.Schema:
    """Return the table's schema; while a launch widens it some parts are wider than `schema.json` says."""
    schemas = read_schemas(folder) or Schemas.of({})
    wider = [told_by(part.schema) for part in listed if part.schema != schema_of(table, schemas)]
    return schema_of(table, reduce(unify, wider, schemas))


def _project(schema: pa.Schema, columns: Sequence[str] | None) -> pa.Schema:
    if columns is None:
        return schema
    for name in columns:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, 3)
            raise ValueError(f"there is no column {name!r}. Near: {', '.join(near) or ', '.join(schema.names)}")
    return pa.schema([schema.field(name) for name in columns])


def _attempt_rows(
    folder: ScanFolder,
    table: str,
    trials: pa.Array | None,
    columns: Sequence[str] | None,
) -> pa.Table:
    seen = _seen(folder, table, trials)
    wanted = _project(seen.schema, columns)
    read = _with_attempts(wanted)
    sources = [[conform(seen.rows, read)], *(read_groups(part, read, trial=trials) for part in seen.listed)]
    picked = (_where(rows, mask) for source in sources for rows, mask in seen.chosen.pick(source))
    return stacked(wanted, [conform(rows, wanted) for rows in picked])


def _reduced_epochs(folder: ScanFolder, columns: Sequence[str], reduce: Callable[[pa.Table], pa.Table]) -> pa.Table:
    seen = _seen(folder, "epochs", None)
    read = _with_attempts(_project(seen.schema, columns))
    place = read.get_field_index("trial")
    left = read.set(place, OF_ATTEMPT.field("trial"))  # as text: a key stands in few rows then

    def reduced(rows: pa.Table) -> pa.Table:
        return conform(reduce(rows), left)

    in_parts = (rows for part in seen.listed for rows in reduce_groups(part, read, reduced))
    rows = stacked(left, [reduced(conform(seen.rows, read)), *in_parts])
    places = seen.chosen.positions(rows)
    trials = pa.DictionaryArray.from_arrays(pa.array(places[places >= 0], pa.int32()), seen.chosen.keys)
    return _where(rows, places >= 0).set_column(place, "trial", trials).select(columns)


@dataclass(frozen=True)
class _Seen:
    """What one look at a folder finds of a table whose rows are of attempts."""

    rows: pa.Table
    """In journals."""
    listed: list[Part]
    schema: pa.Schema
    chosen: Chosen


def _seen(folder: ScanFolder, table: str, trials: pa.Array | None) -> _Seen:
    found = _ended(journals(folder), details=True)
    listed = parts(folder.trials)
    own = parts(folder.path / table)  # before trials are read: had compaction taken epochs, it has taken those first
    schema = _schema(folder, table, own)
    return _Seen(TABLES[table](found, schema), own, schema, Chosen(_standing_attempts(found, listed, trials)))


def _with_attempts(wanted: pa.Schema) -> pa.Schema:
    """Return a schema with the columns that say whose row it is, as dictionaries."""
    return pa.unify_schemas([ENCODED, pa.schema([field for field in wanted if field.name not in ENCODED.names])])


def _where(rows: pa.Table, mask: Mask) -> pa.Table:
    return rows if mask.all() else rows.filter(pa.array(mask))


def _standing_attempts(found: Sequence[Attempt], listed: Iterable[Part], trials: pa.Array | None) -> pa.Table:
    """Return `trial` and `writer` of the attempts that stand, of `trials` alone if given."""
    if trials is None and not found and all(part.compacted for part in listed):
        return stacked(OF_ATTEMPT, (read_part(part, OF_ATTEMPT) for part in listed))
    table = pa.concat_tables([trials_table(found, DECIDING), *(read_part(part, DECIDING) for part in listed)])
    if trials is not None:
        table = table.filter(pc.is_in(table["trial"], value_set=trials))
    mask = standing(table)
    return (table if mask is None else table.filter(pa.array(mask))).select(OF_ATTEMPT.names)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A trial that a journal tells to be in training."""

    trial: str
    configuration: str
    families: tuple[str, ...]
    kind: str
    fold: int
    replicate: int
    attempt: int
    epoch: int | None
    """The last that ended; None before the first."""
    epochs: int
    """Epochs asked for."""
    started: float
    """Unix seconds, by the clock of its host."""
    metrics: Mapping[str, Any]
    """Of the last epoch."""
    host: str
    device: str
    bundle: str
    writer: str


def running(folder: ScanFolder) -> list[Running]:
    """Return the trials that have a start and no end in journals that are open; their writers may be dead."""
    return steadily(folder, lambda: [_running(attempt) for attempt in _unfinished(folder)])


def _unfinished(folder: ScanFolder) -> Iterator[Attempt]:
    for journal in journals(folder):
        if journal.cause is None:
            for attempt in attempts(journal, _rows(journal, details=True)):
                if attempt.end is None and not attempt.interrupted:
                    yield attempt


def _running(attempt: Attempt) -> Running:
    start, epoch = attempt.start, max(attempt.epochs, default=None)
    return Running(
        trial=attempt.trial,
        configuration=start.get("configuration", ""),
        families=tuple(start.get("families", ())),
        kind=start.get("kind", Kind.TRIAL.value),
        fold=start.get("fold", 0),
        replicate=start.get("replicate", 0),
        attempt=attempt.number,
        epoch=epoch,
        epochs=start.get("epochs", 0),
        started=start.get("time", 0.0),
        metrics={} if epoch is None else attempt.epochs[epoch],
        host=attempt.place.get("host", ""),
        device=attempt.place.get("device", ""),
        bundle=attempt.place["bundle"],
        writer=attempt.place["writer"],
    )


def ended_in_bundle(folder: ScanFolder, bundle: str) -> tuple[set[str], dict[str, int]]:
    """Return what earlier attempts at a bundle made: the trials that ended, and of those lost how often they were.

    A lost trial is not among the ended ones; a trial that was lost and then ended is in both.
    """
    columns = pa.schema({name: TRIALS[name] for name in ("trial", "failure", "attempt", "bundle")})
    table = steadily(folder, lambda: _of_bundle(folder, bundle, columns))
    lost: dict[str, int] = {}
    done = set()
    for row in table.to_pylist():
        if row["failure"] == Failure.LOST:
            lost[row["trial"]] = max(row["attempt"], lost.get(row["trial"], 0))
        else:
            done.add(row["trial"])
    return done, lost


def _of_bundle(folder: ScanFolder, bundle: str, columns: pa.Schema) -> pa.Table:
    found = _ended(journal for journal in journals(folder) if journal.bundle == bundle)
    listed = [part for part in parts(folder.trials) if part.compacted or part.path.name.startswith(f"{bundle}.")]
    held = pa.array([bundle])
    groups = (rows for part in listed for rows in read_groups(part, columns, bundle=held))
    rows = stacked(columns, [trials_table(found, columns), *groups])
    return rows.filter(pc.equal(rows["bundle"], bundle))


# ---- under the lock ----


def corrupt_parts(folder: ScanFolder) -> list[StoreError]:
    """Return what is wrong with each part that does not read; every byte of every table is read for it."""
    found = []
    for table in TABLES:
        for path in sorted((folder.path / table).glob("[!.]*.parquet")):
            try:
                part = describe(path)
                deque(read_groups(part, part.schema), maxlen=0)
            except VanishedError:
                continue
            except StoreError as error:
                found.append(error)
    return found


def widen(folder: ScanFolder, schemas: Schemas) -> Schemas:
    """Make the tables hold what `schemas` has as well; return what they hold then. The caller holds the lock.

    Old parts are rewritten first, each at once; `schema.json` comes last. A sealer that knew the old schema meanwhile
    looks again before it removes its journal.
    """
    return steadily(folder, lambda: _widen(folder, schemas))


def _widen(folder: ScanFolder, schemas: Schemas) -> Schemas:
    wide = _wider(folder, schemas)
    while not _has(folder, wide):
        _rewrite(folder, wide)
        write_schemas(folder, wide)
    return wide


def _wider(folder: ScanFolder, schemas: Schemas) -> Schemas:
    known = read_schemas(folder)
    told = [told_by(part.schema) for table in ("trials", "epochs") for part in parts(folder.path / table)]
    return reduce(unify, [*([known] if known else []), *told, schemas])


def _has(folder: ScanFolder, schemas: Schemas) -> bool:
    return read_schemas(folder) == schemas and not list(_narrow(folder, schemas))


def _narrow(folder: ScanFolder, schemas: Schemas) -> Iterator[tuple[Part, pa.Schema]]:
    """Yield the parts that have another schema than they should, with that."""
    for table in TABLES:
        schema = schema_of(table, schemas)
        for part in parts(folder.path / table):
            if part.schema != schema:
                yield part, schema


def _rewrite(folder: ScanFolder, schemas: Schemas) -> None:
    for part, schema in _narrow(folder, schemas):
        write_part(part.path, read_groups(part, schema), schema, part.replaces if part.compacted else None)
