"""A launch in a process that dies, or finds the disk full, at a given look at its scan folder: any moment can be hit.

Counted are opening, renaming, removing, making, locking and synchronising files, and each write through `os`, of which
the one that is hit leaves half.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from launched import launched_here

from nnscan.errors import NnscanError
from nnscan.launch_options import Outcome

SPAWNING = multiprocessing.get_context("forkserver")
SPAWNING.set_forkserver_preload(
    ["launched", "nnscan.worker", "nnscan.training.network", "sklearn.datasets", "sklearn.model_selection"]
)

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "fcntl.flock", "os.listdir", "os.truncate"}


class Moments:
    """Counts looks at the file system below `folder`; at one of them, or from it on, something goes wrong.

    A look at a file that is to be written is one more that cannot be done where the disk is full.
    """

    def __init__(self, folder: Path, happen: Callable[[int, bool], None]) -> None:
        self._folder = str(folder)
        self._happen = happen
        self.seen = 0

    def watch(self) -> None:
        for name in ("write", "pwrite"):
            setattr(os, name, self._halved(getattr(os, name)))
        os.fsync = self._before(os.fsync)  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def look(self, writes: bool) -> None:
        self.seen += 1
        self._happen(self.seen, writes)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in EVENTS and self._concerns(arguments):
            self.look(event == "os.mkdir" or (event == "open" and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))))

    def _concerns(self, arguments: tuple[Any, ...]) -> bool:
        return any(
            isinstance(one, int) or (isinstance(one, str | Path) and str(one).startswith(self._folder))
            for one in arguments[:2]
        )

    def _halved(self, write: Callable[..., int]) -> Callable[..., int]:
        """Return `write`, which writes half first: so the look between leaves a torn row."""

        def halved(descriptor: int, data: bytes, *more: int) -> int:
            half = write(descriptor, data[: len(data) // 2], *more)
            self.look(writes=True)
            return (
                half if half < len(data) // 2 else half + write(descriptor, data[half:], *(one + half for one in more))
            )

        return halved

    def _before(self, call: Callable[..., None]) -> Callable[..., None]:
        def counted(descriptor: int) -> None:
            self.look(writes=True)
            call(descriptor)

        return counted


def die_at(moment: int) -> Callable[[int, bool], None]:
    def die(seen: int, writes: bool) -> None:
        if seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


def full_from(moment: int) -> Callable[[int, bool], None]:
    def refuse(seen: int, writes: bool) -> None:
        if moment <= seen and writes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return refuse


@dataclass(frozen=True)
class Ended:
    """How a launch in a process of its own ended."""

    seen: int = 0
    """Looks at the file system; 0 where it was killed."""
    code: int = 0
    said: str = ""
    """Its error."""


Run = Callable[[Path, Path], Outcome]
"""Launches, or retrains: takes a scan file and the folder of scan folders. A function of a module."""


def launch_until(moment: int, scan: Path, scans: Path, run: Run = launched_here) -> Ended:
    """Launch in a process that dies at its `moment`-th look at the file system."""
    return _launched(die_at, moment, scan, scans, run)


def launch_while_full(moment: int, scan: Path, scans: Path, run: Run = launched_here) -> Ended:
    """Launch in a process for which the disk is full from its `moment`-th look at the file system on."""
    return _launched(full_from, moment, scan, scans, run)


def _launched(*arguments: Any) -> Ended:
    told, tell = SPAWNING.Pipe(duplex=False)
    process = SPAWNING.Process(target=_launch, args=(tell, *arguments))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return Ended(*told.recv()) if process.exitcode == 0 else Ended()


def _launch(tell: Connection, happen: Callable[..., Any], moment: int, scan: Path, scans: Path, run: Run) -> None:
    scans.mkdir(exist_ok=True)
    speak = os.write
    moments = Moments(scans, happen(moment))
    moments.watch()
    try:
        outcome = run(scan, scans)
        ended = (moments.seen, outcome.exit_code, outcome.error)
    except NnscanError as error:
        ended = (moments.seen, error.exit_code, str(error))
    except BaseException:
        ended = (moments.seen, 3, traceback.format_exc())
    os.write = speak
    tell.send(ended)
    os._exit(0)
