"""A launch in a process that dies at a given look at the file system of its scan folder: any moment of it can be hit.

Counted are opening, renaming, removing, making, locking and synchronising files, and each write through `os`, of which
the one that is hit leaves half.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from launched import launched_here

SPAWNING = multiprocessing.get_context("forkserver")
SPAWNING.set_forkserver_preload(
    ["launched", "nnscan.worker", "nnscan.training.network", "sklearn.datasets", "sklearn.model_selection"]
)

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock", "os.listdir", "os.truncate"}


class Moments:
    """Counts looks at the file system below `folder`, and ends the process at one of them."""

    def __init__(self, folder: Path, last: int) -> None:
        self._folder = str(folder)
        self._last = last
        self.seen = 0

    def is_the_last(self) -> bool:
        self.seen += 1
        return self.seen == self._last

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and self._concerns(arguments) and self.is_the_last():
            die()

    def _concerns(self, arguments: tuple[Any, ...]) -> bool:
        return any(
            isinstance(one, int) or (isinstance(one, str | Path) and str(one).startswith(self._folder))
            for one in arguments[:2]
        )

    def watch_writes(self) -> None:
        for name in ("write", "pwrite"):
            setattr(os, name, self._half_of(getattr(os, name)))
        os.fsync = self._before(os.fsync)  # type: ignore[assignment]

    def _half_of(self, write: Callable[..., int]) -> Callable[..., int]:
        def counted(descriptor: int, data: bytes, *more: int) -> int:
            if self.is_the_last():
                write(descriptor, data[: len(data) // 2], *more)
                die()
            return write(descriptor, data, *more)

        return counted

    def _before(self, call: Callable[..., None]) -> Callable[..., None]:
        def counted(descriptor: int) -> None:
            if self.is_the_last():
                die()
            call(descriptor)

        return counted


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def launch_until(moment: int, scan: Path, scans: Path) -> int:
    """Launch in a process that dies at its `moment`-th look at the file system; return how many there were, 0 if hit."""
    told, tell = SPAWNING.Pipe(duplex=False)
    process = SPAWNING.Process(target=_launch, args=(moment, scan, scans, tell))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return int(told.recv()) if process.exitcode == 0 else 0


def _launch(moment: int, scan: Path, scans: Path, tell: Connection) -> None:
    scans.mkdir(exist_ok=True)
    moments = Moments(scans, moment)
    moments.watch_writes()
    sys.addaudithook(moments.audit)
    outcome = launched_here(scan, scans)
    tell.send(moments.seen)
    os._exit(outcome.exit_code)
