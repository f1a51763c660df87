"""Ends the processes that a back-end left behind: all that share the session of its driver."""

from __future__ import annotations

import contextlib
import os
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


def end_session(session: int) -> None:
    """Kill every process of `session`, and those they start meanwhile."""
    while left := list(in_session(session)):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1)


def end_orphans(session: int) -> None:
    """Kill the other processes of this one's `session` where the process that began it is gone.

    Where that lives it tidies up by itself, and has something to say first.
    """
    left = {process.pid: process for process in in_session(session)}
    if session not in left and left.pop(os.getpid(), None):
        for process in left.values():
            with contextlib.suppress(psutil.Error):
                process.kill()
