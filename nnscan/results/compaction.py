"""Compaction: many small parts become few, with one row a trial, while others read and seal.

A compacted part stands for the parts that its metadata names, and readers pass over those, so the exchange happens at
one rename; the old parts are removed after it. Trials come before epochs and steps, and no part of theirs goes before
the old parts of trials/ are gone: a reader that chose attempts by those notices.

A part is merged again only when what it is merged with has at least half as many rows, or when it holds rows that no
longer stand: a row is rewritten a logarithmic number of times, and ten new trials do not rewrite a million.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from nnscan.errors import StoreError
from nnscan.results.attempts import TABLES, schema_of
from nnscan.results.choice import DECIDING, ENCODED, OF_ATTEMPT, Chosen, Mask, standing
from nnscan.results.folder import ScanFolder, remedy
from nnscan.results.journal import journals
from nnscan.results.part import Part, parts, read_groups, read_part, remove_replaced, stacked, write_part
from nnscan.results.schema import read_schemas
from nnscan.results.store import seal_all, steadily, widen

FORGOTTEN_SECONDS = 86_400.0
"""Age at which a file that a killed writer of parts left aside is removed; a live one takes seconds."""


def compact(folder: ScanFolder) -> None:
    """Seal what is closed, then leave one row a trial in trials/, and in epochs/ and steps/ those of its attempt.

    The caller holds the lock; journals, sealers and readers may be at work. Parts that are being sealed wait for the
    next time.

    Raises
    ------
    StoreError
        Where a part does not read or cannot be written: nothing is lost, and the next call goes on.
    """
    seal_all(folder)
    steadily(folder, lambda: _compact(folder))


def _compact(folder: ScanFolder) -> None:
    for table in TABLES:
        _clear(folder.path / table)
    known = read_schemas(folder)
    schemas = known and widen(folder, known)  # a launch may have died while it widened
    listed = _settled(folder)
    if schemas and any(not part.compacted for found in listed.values() for part in found):
        _merge(folder.trials, _trial_pieces(listed.pop("trials")), schemas.trials)
        for table, found in listed.items():
            pieces = _row_pieces(found, _standing(folder)) if found else []
            _merge(folder.path / table, pieces, schema_of(table, schemas))


def _clear(table: Path) -> None:
    """Remove what a compaction, or a writer of parts, left when it was killed."""
    try:
        remove_replaced(table)
        for path in table.glob(".*.parquet.*"):
            with suppress(FileNotFoundError):  # renamed by its writer, which lives
                if time.time() - path.stat().st_mtime > FORGOTTEN_SECONDS:
                    path.unlink()
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"cannot clear {table}: {error.strerror or error}. {remedy(error)}, then launch again."
        ) from error


def _settled(folder: ScanFolder) -> dict[str, list[Part]]:
    """Return the parts by table, less those that are being sealed; compacted ones and the largest first.

    Trials are listed last: so a part of epochs/ that is here, its journal gone, has its trials here too.
    """
    listed = {table: parts(folder.path / table) for table in TABLES if table != "trials"}
    sealing = {f"{journal.name}.parquet" for journal in journals(folder)}
    listed["trials"] = parts(folder.trials)
    return {
        table: sorted(
            (part for part in found if part.path.name not in sealing), key=lambda part: (not part.compacted, -part.rows)
        )
        for table, found in listed.items()
    }


@dataclass(frozen=True)
class Piece:
    """A part, and which of its rows stand."""

    part: Part
    mask: Mask

    @property
    def rows(self) -> int:
        """How many rows stand."""
        return int(self.mask.sum())

    @property
    def clean(self) -> bool:
        """Whether a compaction made it and all its rows stand."""
        return self.part.compacted and bool(self.mask.all())

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Yield the rows that stand, a row group at a time."""
        row = 0
        for table in read_groups(self.part, schema):
            yield table.filter(pa.array(self.mask[row : row + len(table)]))
            row += len(table)


def _trial_pieces(listed: Sequence[Part]) -> list[Piece]:
    tables = [read_part(part, DECIDING) for part in listed]
    mask = standing(stacked(DECIDING, tables))
    if mask is None:
        mask = np.ones(sum(map(len, tables)), dtype=bool)
    ends = np.cumsum([len(table) for table in tables])
    return [Piece(part, own) for part, own in zip(listed, np.split(mask, ends[:-1]), strict=True)]


def _standing(folder: ScanFolder) -> Chosen:
    """Return the attempts that stand in the compacted parts of trials/."""
    found = [read_part(part, OF_ATTEMPT) for part in parts(folder.trials) if part.compacted]
    return Chosen(stacked(OF_ATTEMPT, found))


def _row_pieces(listed: Sequence[Part], chosen: Chosen) -> list[Piece]:
    return [Piece(part, _mask(part, chosen)) for part in listed]


def _mask(part: Part, chosen: Chosen) -> Mask:
    masks = [mask for _, mask in chosen.pick(read_groups(part, ENCODED))]
    return np.concatenate([np.zeros(0, dtype=bool), *masks])


def _merge(table: Path, pieces: Sequence[Piece], schema: pa.Schema) -> None:
    """Put one part in the place of those that are to be merged, then remove them."""
    merged = to_merge(pieces)
    names = [piece.part.path.name for piece in merged]
    if any(piece.rows for piece in merged):
        rows = (rows for piece in merged for rows in piece.tables(schema))
        write_part(table / f"compacted.{secrets.token_hex(8)}.parquet", rows, schema, replaces=names)
    for name in names:
        (table / name).unlink(missing_ok=True)


def to_merge(pieces: Sequence[Piece]) -> list[Piece]:
    """Return the pieces to write anew: those that no compaction has seen, or of which rows no longer stand.

    With them go clean ones of at most twice their rows together, smallest first: so parts stay few.
    """
    merged = [piece for piece in pieces if not piece.clean]
    rows = sum(piece.rows for piece in merged)
    for piece in sorted((piece for piece in pieces if piece.clean), key=lambda piece: piece.rows):
        if merged and piece.rows <= 2 * rows:
            merged.append(piece)
            rows += piece.rows
    return merged
