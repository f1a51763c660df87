"""Parts: the Parquet files of a table, put in place whole, never changed in their rows.

The part that a journal is sealed into has its name, `<bundle>.<writer>.parquet`. A part that compaction made is called
`compacted.<random>.parquet`; its metadata names the parts it stands for, which readers pass over while they still lie
there, and says that its trials stand in no other compacted part.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, count, takewhile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nnscan.errors import StoreError
from nnscan.identity import LATER
from nnscan.results.folder import told
from nnscan.results.journal import names_in
from nnscan.results.schema import text_of

REPLACES = b"nnscan.replaces"
"""Key of a compacted part's metadata: JSON list of the names of the parts it stands for."""

_ARROW_SCHEMA = b"ARROW:schema"
"""Key under which Arrow writes its own schema, in base64, beside that of Parquet."""

ROWS_PER_GROUP = 64 * 1024
"""Bounds the memory of compaction; a million rows are 16 groups."""

MOST_THREADS = 8
"""That reduce row groups at once: from there on they wait for each other, for Python is in the way."""

Tables = Iterable[pa.Table]


class VanishedError(Exception):
    """A file that was listed is gone: compacted or sealed meanwhile. The reading starts again."""


@dataclass(frozen=True)
class Part:
    """A part, as its footer tells it."""

    path: Path
    schema: pa.Schema
    rows: int
    compacted: bool
    replaces: frozenset[str] = frozenset()


def parts(table: Path) -> list[Part]:
    """Return the parts of a table that count, sorted by name.

    VanishedError where one is gone since it was listed; StoreError where one does not read.
    """
    found = _all(table)
    replaced = _replaced(found)
    return [part for part in found if part.path.name not in replaced]


def remove_replaced(table: Path) -> None:
    """Remove the parts that a compacted one stands for; a compaction may have died before it did."""
    found = _all(table)
    for name in _replaced(found) & {part.path.name for part in found}:
        (table / name).unlink(missing_ok=True)


def _all(table: Path) -> list[Part]:
    return [describe(table / name) for name in names_in(table) if name.endswith(".parquet")]


def _replaced(found: Iterable[Part]) -> frozenset[str]:
    return frozenset[str]().union(*(part.replaces for part in found))


def describe(path: Path) -> Part:
    """Return what the footer of a part tells."""
    with opened(path) as file:
        _check_footer(file)
        metadata = file.schema_arrow.metadata or {}
        replaces = frozenset(json.loads(metadata.get(REPLACES, b"[]")))
        return Part(path, file.schema_arrow.remove_metadata(), file.metadata.num_rows, REPLACES in metadata, replaces)


def _check_footer(file: pq.ParquetFile) -> None:
    """Raise ValueError where the two schemas in a footer differ: pages have checksums, the footer has none."""
    encoded = file.metadata.metadata[_ARROW_SCHEMA]
    written = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded, validate=True)))
    if not written.equals(file.schema_arrow):
        raise ValueError("its footer contradicts itself")


@contextmanager
def opened(path: Path, dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
    """Open a part; what goes wrong in it, while it is read too, is a VanishedError or a StoreError that names it."""
    with _telling(path), _reader(path, dictionaries) as file:
        yield file


def _reader(source: Path | pa.NativeFile, dictionaries: Sequence[str]) -> pq.ParquetFile:
    return pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=dictionaries)


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    """Turn what goes wrong in a part into a VanishedError or a StoreError that names it."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, EOFError) as error:
        if isinstance(error, StoreError | MemoryError):
            raise
        raise _told(path, error) from error


def _told(path: Path, error: Exception) -> Exception:
    """Return the error to raise where a part does not read."""
    code = getattr(error, "errno", None)  # of the system; what is wrong inside of a file has none
    if code in (errno.ENOENT, errno.ESTALE):
        return VanishedError(path)
    if code:
        return StoreError(f"cannot read {path}: {os.strerror(code)}. Check the disk, the limits and the rights.")
    return StoreError(_corrupt(path, error))


def _corrupt(path: Path, error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
    then = "the trials in it run again with the next launch"
    if path.parent.name != "trials":
        then = "its rows are lost, the scores in trials/ stay, and `nnscan retrain-best` may ask for --epochs"
    return (
        f"{path} does not read: {first}. It is a part of the table {path.parent.name}/ of the scan; the other parts are"
        f" sound. Move it away (`mv {path} {path}.corrupt`): {then}."
    )


def read_part(part: Part, columns: pa.Schema) -> pa.Table:
    """Return the rows of a part, with these columns in these types; one it lacks is null.

    A column of text may be asked for as a dictionary: where values are few it takes a fifth of the time and memory.
    """
    with opened(part.path, _dictionaries(part, columns)) as file:
        known = [name for name in columns.names if name in part.schema.names]
        return conform(file.read(columns=known, use_threads=True), columns)


def read_groups(part: Part, columns: pa.Schema, **holding: pa.Array | None) -> Iterator[pa.Table]:
    """Yield the rows of a part, a row group at a time, as `read_part` returns them.

    With, say, `trial=keys` groups are passed over in which that column has none of these values.
    """
    known = [name for name in columns.names if name in part.schema.names]
    with opened(part.path, _dictionaries(part, columns)) as file:
        for group in range(file.num_row_groups):
            if all(values is None or _holds(file, group, name, values) for name, values in holding.items()):
                yield conform(file.read_row_group(group, columns=known, use_threads=True), columns)


def reduce_groups(part: Part, columns: pa.Schema, reduce: Callable[[pa.Table], pa.Table]) -> list[pa.Table]:
    """Return what `reduce` leaves of each row group of a part, in their order: several are read and reduced at once."""
    threads = min(-(-part.rows // ROWS_PER_GROUP), pa.cpu_count(), MOST_THREADS)  # Arrow knows how many we may use
    if threads < 2:
        return [reduce(rows) for rows in read_groups(part, columns)]
    from concurrent.futures import ThreadPoolExecutor

    known = [name for name in columns.names if name in part.schema.names]
    groups = count()  # a thread that is free takes the next one: cores may be shared with others

    def share(_: int) -> list[tuple[int, pa.Table]]:
        # A reader for each thread: in one that serves several Arrow 26 hangs, in its cache of what was read ahead.
        file = _reader(source, _dictionaries(part, columns))
        mine = takewhile(lambda group: group < file.num_row_groups, groups)
        read = ((group, file.read_row_group(group, columns=known, use_threads=False)) for group in mine)
        return [(group, reduce(conform(rows, columns))) for group, rows in read]

    with _telling(part.path), pa.OSFile(str(part.path)) as source, ThreadPoolExecutor(threads) as pool:
        found = dict(chain.from_iterable(pool.map(share, range(threads))))
    return [found[group] for group in sorted(found)]


def _dictionaries(part: Part, columns: pa.Schema) -> list[str]:
    """Return the columns of text that are asked for as dictionaries, which is how they are stored."""
    asked = {field.name for field in columns if pa.types.is_dictionary(field.type)}
    return [field.name for field in part.schema if field.name in asked and field.type == pa.string()]


def _holds(file: pq.ParquetFile, group: int, name: str, values: pa.Array) -> bool:
    column = file.read_row_group(group, columns=[name])[name]
    return bool(pc.any(pc.is_in(column, value_set=values)).as_py())


def stacked(schema: pa.Schema, tables: Tables) -> pa.Table:
    """Return the rows of `tables`, all of this schema, in one table; there may be none."""
    # Neither pa.table nor Schema.empty_table: both import pandas where it is installed, 0.2 s.
    return pa.concat_tables([pa.Table.from_batches([], schema), *tables])


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return `table` with the columns of `schema`, in its types: as a wider schema has them."""
    return pa.Table.from_arrays([_column(table, field) for field in schema], schema=schema)


def _column(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    column = table[field.name] if field.name in table.column_names else None
    if column is not None and column.type == field.type:
        return column
    if column is not None and pa.types.is_dictionary(column.type):
        return column.cast(field.type)
    if pa.types.is_dictionary(field.type):
        return _column(table, pa.field(field.name, field.type.value_type)).dictionary_encode()
    if column is None:
        return _missing(table, field)
    return _text(column) if field.type == pa.string() else column.cast(field.type)


def _missing(table: pa.Table, field: pa.Field) -> pa.ChunkedArray | pa.Array:
    """Return nulls; of an option that came later than `table` what was so before, where it could have been."""
    for later in LATER:
        section, option = later.path
        beside = f"{section}.{later.beside}"
        if field.name == f"{section}.{option}" and beside in table.column_names:
            value = pa.scalar(text_of(later.value) if field.type == pa.string() else later.value, field.type)
            return pc.if_else(pc.is_valid(table[beside]), value, pa.scalar(None, field.type))
    return pa.nulls(len(table), field.type)


def _text(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_list(column.type):
        return pa.array([None if value is None else text_of(value) for value in column.to_pylist()], pa.string())
    encoded = column.combine_chunks().dictionary_encode()  # a hyperparameter has few values
    return pa.array([text_of(value) for value in encoded.dictionary.to_pylist()], pa.string()).take(encoded.indices)


def write_part(
    path: Path, tables: Iterable[pa.Table], schema: pa.Schema, replaces: Iterable[str] | None = None
) -> None:
    """Write a part that a reader finds whole or not at all; with `replaces` (part names) it is a compacted one.

    StoreError where the disk does not take it: what it is made of is still there.
    """
    metadata = None if replaces is None else {REPLACES: json.dumps(sorted(replaces))}
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with told(path):
            path.parent.mkdir(exist_ok=True)
            _write(aside, tables, schema.with_metadata(metadata))
            aside.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):  # it was renamed, or cannot be removed either
            aside.unlink()


def _write(aside: Path, tables: Tables, schema: pa.Schema) -> None:
    with aside.open("wb") as file:
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            for table in _groups(tables):
                writer.write_table(table.replace_schema_metadata(schema.metadata), row_group_size=ROWS_PER_GROUP)
        file.flush()
        os.fsync(file.fileno())


def _groups(tables: Tables) -> Iterator[pa.Table]:
    """Yield the rows of `tables` in tables large enough for a row group: small groups make reading slow."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(map(len, gathered)) >= ROWS_PER_GROUP:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def sync_folder(path: Path) -> None:
    """Have the names in a folder on the disk, before what a renamed file was made of is removed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
