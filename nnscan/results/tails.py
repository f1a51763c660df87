"""Journals read as they grow, and parts as they come: what every follower of a scan begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Journal, journals, names_in, read_lines
from nnscan.results.part import VanishedError


@dataclass
class Tail:
    """A journal, and how far it was read; a follower adds what it has to know of the lines before."""

    journal: Journal
    offset: int = 0

    def read(self) -> list[bytes]:
        """Return the whole lines that are new; none where the journal was closed or sealed this moment.

        The next look finds it under its other name, or its part.
        """
        try:
            lines, self.offset = read_lines(self.journal.path, self.offset)
        except FileNotFoundError:
            return []
        return lines


Kind = TypeVar("Kind", bound=Tail)


class Tails(Generic[Kind]):
    """The journals of a scan folder, each read from where it was left.

    Parameters
    ----------
    folder : ScanFolder
        Is read only.
    begin : callable
        Makes the tail of a journal that is new.
    """

    def __init__(self, folder: ScanFolder, begin: Callable[[Journal], Kind]) -> None:
        self._folder, self._begin = folder, begin
        self._tails: dict[str, Kind] = {}

    def __iter__(self) -> Iterator[Kind]:
        """Return the tails of the journals that there were at the last look."""
        return iter(self._tails.values())

    def read(self) -> Iterator[tuple[Kind, list[bytes]]]:
        """Yield each journal that is there now with its new lines."""
        found = journals(self._folder)
        # One that is renamed while the folder is listed stands there under both names, the closed one last.
        self._tails = {one.name: self._tails.get(one.name) or self._begin(one) for one in found}
        for journal in found:
            tail = self._tails[journal.name]
            tail.journal = journal
            yield tail, tail.read()


class Parts:
    """The parts of the table trials/ of a scan folder, each read once."""

    def __init__(self, folder: ScanFolder) -> None:
        self._folder = folder
        self._read: set[str] = set()

    def read(self, take: Callable[[Path], None]) -> None:
        """Hand each part that is new to `take`; one that is compacted meanwhile comes later, as what it became."""
        names = {name for name in names_in(self._folder.trials) if name.endswith(".parquet")}
        self._read &= names
        for name in sorted(names - self._read):
            try:
                take(self._folder.trials / name)
            except VanishedError:
                continue
            self._read.add(name)
