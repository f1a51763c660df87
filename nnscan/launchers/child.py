"""The process that drives a back-end: the launching one talks with it through two pipes, in lines of JSON."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from nnscan.results.folder import told

Child = subprocess.Popen[str]


def start(module: str, log: Path, folder: Path, environment: Mapping[str, str]) -> Child:
    """Start a module of ours in `folder`, in a session of its own; what it says beside its answers goes to `log`."""
    with told(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("ab")
    with file:
        return subprocess.Popen(  # noqa: S603  (a module of ours)
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=folder,
            env=environment,
            start_new_session=True,  # Ctrl-C is not for it; and all that it started is found by its session
        )


def say(child: Child, message: Mapping[str, Any]) -> None:
    """Tell it something; one that died is noticed where its answers are read."""
    with contextlib.suppress(BrokenPipeError):
        stdin = opened(child.stdin)
        stdin.write(json.dumps(message) + "\n")
        stdin.flush()


def hang_up(child: Child) -> None:
    """Close its standard input: it is to end."""
    with contextlib.suppress(BrokenPipeError):
        opened(child.stdin).close()


def end(child: Child, seconds: float) -> None:
    """Wait for its end, and kill it where it takes longer."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(seconds)
    if child.poll() is None:
        child.kill()
        child.wait()


def opened(stream: IO[str] | None) -> IO[str]:
    """Return a pipe of a process that was started with it."""
    assert stream is not None
    return stream
