"""Two things that Python has no words for: a process that ends with its parent, and its name. Linux alone."""

from __future__ import annotations

import ctypes
import os
import signal

SET_PARENT_DEATH_SIGNAL = 1
SET_NAME = 15
"""prctl(2)"""


def end_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Get the signal `number` when the process `parent`, which started this one, ends, however it does.

    Called in the process's main thread. A process that is forked from this one has to call it for itself.
    """
    _prctl(SET_PARENT_DEATH_SIGNAL, number)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), number)


def call_this_process(name: str) -> None:
    """Let `ps` and `top` show this process as `name`, of which they take 15 bytes."""
    _prctl(SET_NAME, ctypes.c_char_p(name.encode()))


def _prctl(what: int, value: object) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(what, value, 0, 0, 0)
