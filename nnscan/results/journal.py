"""Journals: what a writer appends while it runs, a JSON object a line.

A journal is `journal/<bundle>.<writer>.jsonl` while it is written. Closing renames it to `....jsonl.<cause>`; the
writer sees that its journal lost its name and ends. Until it looks it may go on writing, so whoever seals first appends
a row `closed`: rows behind it never count, and every reader and sealer of the same journal takes the same rows.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from nnscan.errors import StoreError
from nnscan.results.folder import ScanFolder, remedy

Row = dict[str, Any]
"""A line of a journal; its key `row` says which kind it is."""

DETAILS = (b'{"row": "epoch"', b'{"row": "step"', b'{"row": "steps"')
"""How the lines begin that tell of epochs and steps: nearly all of a journal."""

CLOSED_LINE = b'\n{"row": "closed"}\n'
"""Begins a new line: the one before may be torn."""


class Cause(StrEnum):
    """Why a journal was closed."""

    ENDED = "ended"
    """Its writer came to the end."""
    LOST = "lost"
    """Its writer died: the trial it was in counts as one lost attempt, unless the writer's allocation was ending."""
    INTERRUPTED = "interrupted"
    """The launch ended or died, and its writers with it: nothing is written of unfinished trials."""


@dataclass(frozen=True)
class Death:
    """How a writer died, for the row of the trial that it was in."""

    error: str
    """One line: the cause."""
    traceback: str = ""
    """Its last words."""
    out_of_memory: bool = False
    """Whether its memory limit ended it: where that happens in a second attempt the trial is not tried again."""
    by_itself: bool = False
    """Whether it died of itself: signals that it got on the way, such as those that end other ranks, excuse nothing."""


@dataclass(frozen=True)
class Journal:
    """A journal's file, by what its name says."""

    path: Path
    bundle: str
    writer: str
    cause: Cause | None
    """None: it is being written, or its writer died unseen."""

    @property
    def name(self) -> str:
        """The name that it shares with its parts."""
        return f"{self.bundle}.{self.writer}"


def journals(folder: ScanFolder) -> list[Journal]:
    """Return the journals of a scan folder, sorted by name.

    One that is renamed while the folder is listed stands there under both names, and never under none.
    """
    found = (_journal(folder.journal / name) for name in names_in(folder.journal))
    return [journal for journal in found if journal]


def names_in(path: Path) -> list[str]:
    """Return the names in a folder, sorted, none where there is no folder; hidden ones left out.

    A file renamed while a folder is listed may be missed under both names: so it is listed twice.
    """
    try:
        names = {*os.listdir(path), *os.listdir(path)}  # noqa: PTH208 (names only, a third of the time)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(
            f"cannot list {path}: {error.strerror or error}. Check what is there, and its rights."
        ) from error
    return sorted(name for name in names if not name.startswith("."))


def _journal(path: Path) -> Journal | None:
    match path.name.split("."):
        case [bundle, writer, "jsonl"]:
            return Journal(path, bundle, writer, None)
        case [bundle, writer, "jsonl", ("ended" | "lost" | "interrupted") as cause]:
            return Journal(path, bundle, writer, Cause(cause))
    return None


def close(journal: Journal, cause: Cause) -> Journal | None:
    """Take a journal away from its writer; return it as it is called then, None where someone else was first."""
    path = journal.path.with_name(f"{journal.name}.jsonl.{cause}")
    try:
        journal.path.rename(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(_trouble(journal.path, error)) from error
    return _journal(path)


def read_rows(path: Path, offset: int = 0, *, skip: tuple[bytes, ...] = ()) -> tuple[list[Row], int]:
    """Return the rows that stand behind byte `offset`, and the offset behind them: whole lines only.

    What does not parse is skipped: a torn line, or the zeros that a lost page of a network file system leaves. Lines
    that begin with one of `skip` are passed over unread. FileNotFoundError where the journal was closed or sealed.
    """
    lines, offset = read_lines(path, offset)
    rows = [parse(line) for line in lines if not line.startswith(skip)]
    return [row for row in rows if row], offset


def read_lines(path: Path, offset: int = 0) -> tuple[list[bytes], int]:
    """Return the lines that stand behind byte `offset`, unread, and the offset behind them: whole lines only."""
    with path.open("rb") as file:
        file.seek(offset)
        content = file.read()
    whole = content.rfind(b"\n") + 1
    return [line for line in content[:whole].split(b"\n") if line], offset + whole


def parse(line: bytes) -> Row | None:
    """Return the row that a line of a journal holds, None where it holds none."""
    try:
        row = json.loads(line.strip(b"\0").decode())
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "row" in row else None


def counted(rows: Iterable[Row]) -> tuple[list[Row], bool]:
    """Return the rows that count, those before a row `closed`, and whether there is such a row."""
    taken: list[Row] = []
    for row in rows:
        if row["row"] == "closed":
            return taken, True
        taken.append(row)
    return taken, False


def append_closed(path: Path) -> None:
    """Append the row behind which nothing counts; FileNotFoundError where the journal was sealed."""
    _append_line(path, CLOSED_LINE)


def append_death(path: Path, death: Death) -> None:
    """Append how the journal's writer died; FileNotFoundError where the journal was closed."""
    row = {"row": "died", "time": time.time(), **asdict(death)}
    _append_line(path, b"\n" + _line(row))


def _append_line(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _line(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


class Writer:
    """Appends the rows of one bundle; one process, one writer, one journal.

    Each row is handed to the system as it comes, so it outlives the process; an end row is on the disk when `end`
    returns, so it outlives the machine. StoreError where a row cannot be written: those before it are kept.
    """

    def __init__(self, folder: ScanFolder, bundle: str, place: Mapping[str, Any]) -> None:
        if "." in bundle or "/" in bundle or not bundle:
            raise ValueError(f"a bundle's name is part of file names: found {bundle!r}, it has no dot and no slash")
        self.name = secrets.token_hex(8)
        self.journal = Journal(folder.journal / f"{bundle}.{self.name}.jsonl", bundle, self.name, None)
        self._torn = False
        self._defers, self._is_behind = False, False
        self._descriptor = self._create()
        self._append({"row": "writer", "writer": self.name, "bundle": bundle, **place})

    def _create(self) -> int:
        try:
            self.journal.path.parent.mkdir(exist_ok=True)
            return os.open(self.journal.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StoreError(_trouble(self.journal.path, error)) from error

    def start(self, row: Mapping[str, Any]) -> None:
        """Say that an attempt at a trial begins: `trial`, `attempt`, `configuration`, `settings` and the like."""
        self._append({"row": "start", "time": time.time(), **row})

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Write an epoch: `trial`, `epoch`, `metrics`."""
        self._append({"row": "epoch", "time": time.time(), **row})

    def steps(self, row: Mapping[str, Any]) -> None:
        """Write the steps of an epoch: `trial`, `epoch`, `values` (of each name a list, one value a step)."""
        self._append({"row": "steps", **row})

    def end(self, row: Mapping[str, Any]) -> None:
        """Write how an attempt ended: this makes it count. The row is on the disk when this returns."""
        self._append({"row": "end", "time": time.time(), **row})
        self._is_behind = True
        if not self._defers:
            self._sync()

    @contextmanager
    def ends_together(self) -> Iterator[None]:
        """Let the end rows that are written within be on the disk when this is left: 3 ms for all, not for each."""
        self._defers = True
        try:
            yield
        finally:
            self._defers = False
            if self._is_behind:
                self._sync()

    def interrupted(self, trial: str, reason: str = "") -> None:
        """Say that the attempt at `trial` ends on purpose, unfinished: it does not count."""
        self._append({"row": "interrupted", "time": time.time(), "trial": trial, "reason": reason})

    def ending(self, reason: str) -> None:
        """Say that the allocation ends: should this process die now, that is no fault of the trial it is in."""
        self._append({"row": "ending", "time": time.time(), "reason": reason})

    def closed(self) -> bool:
        """Return whether somebody has taken the journal away: this writer is to end."""
        try:
            there, own = self.journal.path.stat(), os.fstat(self._descriptor)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return True
            raise StoreError(_trouble(self.journal.path, error)) from error
        return (there.st_ino, there.st_dev) != (own.st_ino, own.st_dev)

    def close(self) -> Journal | None:
        """Write no more; return the journal, ready for sealing, or None where somebody has taken it away.

        An attempt that is neither ended nor interrupted is as if it had not been.
        """
        try:
            os.close(self._descriptor)
        except OSError as error:  # NFS may tell only now that the disk is full
            raise StoreError(_trouble(self.journal.path, error)) from error
        return close(self.journal, Cause.ENDED)

    def _append(self, row: Row) -> None:
        line = _line(row)
        try:
            self._write(b"\n" + line if self._torn else line)
        except OSError as error:
            raise StoreError(_trouble(self.journal.path, error)) from error

    def _write(self, data: bytes) -> None:
        while data:
            written = os.write(self._descriptor, data)
            data = data[written:]
            self._torn = bool(data)  # on a full disk: the next row begins a new line, else this one swallows it

    def _sync(self) -> None:
        try:
            os.fsync(self._descriptor)
            self._is_behind = False
        except OSError as error:
            raise StoreError(_trouble(self.journal.path, error)) from error


def _trouble(path: Path, error: OSError) -> str:
    return (
        f"cannot write {path}: {error.strerror or error}. Every trial that ended before is kept, the one being trained"
        f" is not. {remedy(error)}, then launch again: it goes on with what is missing."
    )
