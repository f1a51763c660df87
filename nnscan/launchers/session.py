"""The processes of a back-end: all that share the session of the one that was started for it."""

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


def end_session(session: int) -> None:
    """Kill every process of `session` but this one, and those they start meanwhile."""
    while left := [process for process in in_session(session) if process.pid != os.getpid()]:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(0.01)  # not psutil.wait_procs: it waits for zombies too, until somebody reaps them
