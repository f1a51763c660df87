"""Ends the processes that a back-end left behind: all that share the session of its driver."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator

import psutil

GRACE_SECONDS = 1.0
"""For a driver to end by itself, which takes 0.1 s."""


def in_session(session: int) -> Iterator[psutil.Process]:
    """Yield the live processes of this machine whose session is `session`.

    The session survives the death of a parent, and a process cannot overwrite it, as Ray's daemons do with their
    command line and environment.
    """
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):  # it ended meanwhile
            process = psutil.Process(pid)
            if os.getsid(pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def children(pid: int) -> set[str]:
    """Return the names of the live children of a process."""
    names = set()
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE:
                    names.add(child.name())
    return names


def end_session(session: int) -> None:
    """Kill every process of `session` but this one, and those they start meanwhile."""
    while left := [process for process in in_session(session) if process.pid != os.getpid()]:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)  # not psutil.wait_procs: it waits for zombies too, until somebody reaps them


def main() -> None:
    """End a session and remove a folder when standard input closes: the process that would have done it was killed.

    `python -m nnscan.launchers.ray.leftovers` is told which in a JSON line. A process of its own, because the driver of
    Ray may be killed with the launching process, or stand still in Ray; Ray's agents would live for another minute.
    """
    told = json.loads(sys.stdin.readline() or "null")
    sys.stdin.read()
    if told:
        _end(told["session"], told["folder"])


def _end(session: int, folder: str) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    while any(True for _ in in_session(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    end_session(session)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
