"""Ends the processes that a back-end left behind: all that share the session of its driver."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time

import psutil

from nnscan.launchers.session import end_session, in_session

GRACE_SECONDS = 1.0
"""For a driver to end by itself, which takes 0.1 s."""


def children(pid: int) -> set[str]:
    """Return the names of the live children of a process."""
    names = set()
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE:
                    names.add(child.name())
    return names


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
