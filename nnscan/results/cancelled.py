"""Families and trials that were cancelled: workers pass over them until the next launch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from nnscan.errors import StoreError
from nnscan.results.folder import ScanFolder, remedy, write_atomically


@dataclass(frozen=True)
class Cancelled:
    """What of a scan was cancelled."""

    families: frozenset[str] = frozenset()
    trials: frozenset[str] = frozenset()
    """Keys."""

    def __bool__(self) -> bool:
        return bool(self.families or self.trials)

    def __or__(self, other: Cancelled) -> Cancelled:
        return Cancelled(self.families | other.families, self.trials | other.trials)

    def covers(self, trial: str, families: Iterable[str]) -> bool:
        """Return whether a trial is cancelled: itself, or every family that it belongs to."""
        return trial in self.trials or (bool(self.families) and self.families.issuperset(families))


def read_cancelled(folder: ScanFolder) -> Cancelled:
    """Return what is cancelled; nothing where there is no such file, or it does not read: then all trials run."""
    try:
        content = json.loads(folder.cancelled.read_bytes())
        return Cancelled(frozenset(map(str, content["families"])), frozenset(map(str, content["trials"])))
    except (OSError, ValueError, KeyError, TypeError):
        return Cancelled()


def write_cancelled(folder: ScanFolder, more: Cancelled) -> Cancelled:
    """Add to what is cancelled; return all of it."""
    cancelled = read_cancelled(folder) | more
    content = {"families": sorted(cancelled.families), "trials": sorted(cancelled.trials)}
    try:
        write_atomically(folder.cancelled, (json.dumps(content, indent=1) + "\n").encode())
    except OSError as error:
        raise StoreError(f"cannot write {folder.cancelled}: {error.strerror or error}. {remedy(error)}.") from error
    return cancelled
