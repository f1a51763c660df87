"""The errors a user meets: one tree, each with the exit code its command ends with.

NnscanError
├── ScanError         scan file or options are wrong (2)
├── DataError         data are missing, unreadable or changed (2)
├── BusyError         another launch holds the scan folder (2)
├── StoreError        files of the scan folder cannot be read or written (1)
└── LauncherError     the back-end itself failed (1)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class NnscanError(Exception):
    """Base of every error that nnscan raises on purpose; its text tells what to do."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a scan file or with the options of a command."""

    path: str
    """Where: a key path such as `grid[0].optimizer.learning_rate[2]`, or an option such as `--workers`."""

    message: str
    """What was found, what is accepted, what to type."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ScanError(NnscanError, ValueError):
    """A scan file, or an option, is wrong; all problems are told at once and nothing was started."""

    exit_code = 2

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{source}: {count}", *(f"  {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[ScanError], tuple[str, tuple[Problem, ...]]]:
        # Exceptions are rebuilt from `args`, which holds the text alone: a worker's error would not travel.
        return type(self), (self.source, self.problems)


class DataError(NnscanError, ValueError):
    """Data are missing, unreadable, or not those that the stored results were made with."""

    exit_code = 2


class BusyError(NnscanError, RuntimeError):
    """Another launch holds the scan folder."""

    exit_code = 2


class StoreError(NnscanError, OSError):
    """A file of the scan folder cannot be read or written."""


class LauncherError(NnscanError, RuntimeError):
    """A back-end failed; everything that had finished is kept."""
