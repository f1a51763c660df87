"""The plan of a scan: its trials, as a table. A launch writes it, everything that reads results goes by it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nnscan.errors import StoreError
from nnscan.identity import trial_key
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.trial import Kind, Trial

if TYPE_CHECKING:
    from nnscan.grid import Configuration
    from nnscan.results.schema import Schemas
    from nnscan.scan import Scan

CONFIGURATIONS_A_CHUNK = 4096
_METADATA = b"nnscan"

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("configuration", pa.string()),
        ("family", pa.string()),
        ("fold", pa.int32()),
        ("replicate", pa.int32()),
        ("settings", pa.dictionary(pa.int32(), pa.string())),
    ]
)
"""A row a trial and family: a trial in two families stands twice. `settings` is canonical JSON."""


@dataclass(frozen=True)
class Plan:
    """The trials of a scan, in file order; of a configuration replicate by replicate, the fold varies fastest."""

    table: pa.Table
    """Columns as in `SCHEMA`; its metadata hold the axes and the columns of the tables of results."""

    def keys(self) -> pa.Array:
        """Return the keys of the trials, each once, in the order of the plan."""
        return pc.unique(self.table["key"])

    def trials(
        self, keys: pa.Array | Collection[str] | None = None, attempts: Mapping[str, int] | None = None
    ) -> Iterator[Trial]:
        """Yield the trials, each once, with all its families.

        Parameters
        ----------
        keys
            Of the trials wanted; None: all.
        attempts
            By key, where there were any that count against the limit.
        """
        families = self._families()
        for row in _rows(self._with(keys)):
            in_families = families[row["configuration"]]
            if row["family"] == in_families[0]:
                yield _trial(row, in_families, (attempts or {}).get(row["key"], 0))

    def axes(self, family: str) -> dict[str, list[Any]]:
        """Return the options that vary within `family`: dotted path and values, in the order of the scan file."""
        return dict(self._metadata()["axes"][family])

    def schemas(self) -> Schemas:
        """Return the schemas of the tables that results of this plan need."""
        from nnscan.results.schema import Schemas

        return Schemas.from_json(self._metadata()["schemas"])

    def write(self, folder: ScanFolder) -> None:
        """Write `plan.parquet`."""
        sink = pa.BufferOutputStream()
        # A dictionary above 1 MB (the default) would be given up for plain text, and so would one that changes within
        # a row group: so a group a batch, whose settings then stand once each.
        columns = ["configuration", "family", "settings"]
        with pq.ParquetWriter(
            sink, self.table.schema, compression="zstd", use_dictionary=columns, dictionary_pagesize_limit=2**28
        ) as writer:
            for batch in self.table.to_batches():
                writer.write_batch(batch)
        with told(folder.plan):
            write_atomically(folder.plan, sink.getvalue())

    @staticmethod
    def read(folder: ScanFolder) -> Plan:
        """Read `plan.parquet`; StoreError where there is none that reads."""
        with _readable(folder):
            table = pq.read_table(folder.plan)
            if not table.schema.equals(SCHEMA) or _METADATA not in (table.schema.metadata or {}):
                raise pa.ArrowInvalid("it has other columns")
            return Plan(table)

    def _metadata(self) -> dict[str, Any]:
        return json.loads(self.table.schema.metadata[_METADATA])  # type: ignore[no-any-return]

    def _with(self, keys: pa.Array | Collection[str] | None) -> pa.Table:
        if keys is None:
            return self.table
        wanted = keys if isinstance(keys, pa.Array | pa.ChunkedArray) else pa.array(list(keys), pa.string())
        return self.table.filter(pc.is_in(self.table["key"], value_set=wanted))

    def _families(self) -> dict[str, tuple[str, ...]]:
        """Return the families of each configuration, in the order of the plan."""
        pairs = self.table.select(["configuration", "family"]).group_by(["configuration", "family"], use_threads=False)
        families: dict[str, tuple[str, ...]] = {}
        for batch in pairs.aggregate([]).to_batches():
            for configuration, family in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                families[configuration] = (*families.get(configuration, ()), family)
        return families


def read_columns(folder: ScanFolder, columns: Sequence[str], encoded: Sequence[str] = ()) -> pa.Table:
    """Return these columns of `plan.parquet`, with its metadata; StoreError where there is none that reads.

    Those that `encoded` names are dictionary arrays, which is how they are stored: they take less memory and time.
    """
    with _readable(folder), pq.ParquetFile(folder.plan, read_dictionary=list(encoded)) as file:
        return file.read(columns=list(columns))


def read_axes(folder: ScanFolder) -> dict[str, tuple[str, ...]]:
    """Return the dotted paths of the options that vary within each family; StoreError where no plan reads."""
    with _readable(folder), pq.ParquetFile(folder.plan) as file:
        told = json.loads(file.schema_arrow.metadata[_METADATA])
        return {family: tuple(path for path, _ in axes) for family, axes in told["axes"].items()}


def read_settings(folder: ScanFolder, configurations: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return the settings of these configurations by their keys; StoreError where no plan reads.

    Of settings only the row groups are read that hold one of them: a plan may have millions of rows.
    """
    wanted, found = set(configurations), {}
    with _readable(folder), pq.ParquetFile(folder.plan) as file:
        for group in range(file.num_row_groups):
            if not wanted:
                break
            keys = file.read_row_group(group, columns=["configuration"])["configuration"]
            if pc.any(pc.is_in(keys, value_set=pa.array(wanted, pa.string()))).as_py():
                found.update(_settings_in(file, group, wanted))
                wanted -= found.keys()
    return found


def _settings_in(file: pq.ParquetFile, group: int, wanted: Collection[str]) -> dict[str, dict[str, Any]]:
    rows = file.read_row_group(group, columns=["configuration", "settings"])
    rows = rows.filter(pc.is_in(rows["configuration"], value_set=pa.array(wanted, pa.string())))
    texts = dict(zip(rows["configuration"].to_pylist(), rows["settings"].to_pylist(), strict=True))
    return {key: json.loads(text) for key, text in texts.items()}


@contextmanager
def _readable(folder: ScanFolder) -> Iterator[None]:
    """Turn what goes wrong with reading `plan.parquet` into a StoreError that says what to do."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"cannot read {folder.plan}: {error}. The next launch of the scan writes it anew.") from error


def _rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(max_chunksize=CONFIGURATIONS_A_CHUNK):
        yield from batch.to_pylist()


@lru_cache(maxsize=8)  # the trials of a configuration follow one another
def _settings(text: str) -> dict[str, Any]:
    return json.loads(text)  # type: ignore[no-any-return]


def _trial(row: Mapping[str, Any], families: tuple[str, ...], attempts: int) -> Trial:
    settings = _settings(row["settings"])
    return Trial(
        key=row["key"],
        configuration=row["configuration"],
        settings=settings,
        families=families,
        kind=Kind.TRIAL,
        epochs=settings["training"]["epochs"],
        fold=row["fold"],
        replicate=row["replicate"],
        attempts=attempts,
    )


def expand(scan: Scan) -> Plan:
    """Return the plan of `scan`: its configurations times replicates times folds (or one hold-out)."""
    from nnscan.grid import configurations  # here, because who reads a plan needs no pydantic

    points = configurations(scan)
    slots = list(product(range(scan.replicates), range(scan.folds)))
    batches = []
    while chunk := list(islice(points, CONFIGURATIONS_A_CHUNK)):
        batches.append(_batch(chunk, slots))
    return Plan(pa.Table.from_batches(batches, SCHEMA).replace_schema_metadata({_METADATA: _told(scan)}))


def _batch(chunk: list[Configuration], slots: list[tuple[int, int]]) -> pa.RecordBatch:
    positions = pa.array([index for index in range(len(chunk)) for _ in slots], pa.int32())
    keys = [
        trial_key(point.key, kind=Kind.TRIAL, epochs=0, fold=fold, replicate=replicate)
        for point in chunk
        for replicate, fold in slots
    ]
    columns = [
        pa.array(keys, pa.string()),
        pa.array([point.key for point in chunk], pa.string()).take(positions),
        pa.array([point.family for point in chunk], pa.string()).take(positions),
        pa.array([fold for _, fold in slots] * len(chunk), pa.int32()),
        pa.array([replicate for replicate, _ in slots] * len(chunk), pa.int32()),
        pa.DictionaryArray.from_arrays(positions, pa.array([point.text for point in chunk], pa.string())),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _told(scan: Scan) -> bytes:
    """Return what the plan tells beside its rows: the axes of each family, the columns of the tables of results."""
    from nnscan.grid import axes, metrics, samples
    from nnscan.results.schema import Schemas, hyperparameters

    varied = {family: axes([grid for grid in scan.grids if grid.family == family]) for family in scan.families}
    told = {family: [(".".join(path), values) for path, values in found.items()] for family, found in varied.items()}
    schemas = Schemas.of(hyperparameters(samples(scan.grids)), metrics(scan.grids))
    return json.dumps({"axes": told, "schemas": schemas.to_json()}).encode()
