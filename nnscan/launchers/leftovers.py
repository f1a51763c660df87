"""Ends the processes that a back-end left behind: all that share the session of its driver."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

import psutil


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


def end_orphans(session: int) -> None:
    """Kill the other processes of `session` where the one that began it is gone.

    Where that lives it tidies up by itself, and has something to say first.
    """
    if all(process.pid != session for process in in_session(session)):
        end_session(session)
