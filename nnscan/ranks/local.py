"""Ranks as processes of this machine, started by rank 0."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from nnscan.bundles import Bundle
from nnscan.ranks.host import Host, host
from nnscan.ranks.meeting import Meeting
from nnscan.results.folder import ScanFolder, told

END_SECONDS = 3.0
"""For a rank to end by itself, which takes a moment."""


@contextmanager
def local_ranks(folder: Path, code: Path, bundle: Bundle, size: int) -> Iterator[Host]:
    """Give this process as rank 0 of `size` that train the trials of `bundle`; the others end with the block."""
    children: list[subprocess.Popen[bytes]] = []

    def gone() -> Collection[int]:
        return [rank for rank, child in enumerate(children, 1) if child.poll() is not None]

    with ExitStack() as stack:
        ranks = host(size, gone=gone)
        stack.callback(_end, children)
        stack.callback(ranks.close)
        for rank in range(1, size):
            log = ScanFolder(folder).logs / f"{bundle.name}.{rank}.log"
            children.append(_start(ranks.meeting, rank, folder, code, log))
        yield ranks


def _start(meeting: Meeting, rank: int, folder: Path, code: Path, log: Path) -> subprocess.Popen[bytes]:
    with told(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        written = log.open("ab")
    with written:
        child = subprocess.Popen(
            [sys.executable, "-m", "nnscan.ranks"],
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=written,
            start_new_session=True,  # Ctrl-C is rank 0's, which tells the others
        )
    request = {"meeting": meeting.plain(), "rank": rank, "folder": str(folder), "code": str(code)}
    with suppress(BrokenPipeError):  # a child that died is noticed where it is missing
        stdin = _stdin(child)
        stdin.write(json.dumps(request).encode() + b"\n")
        stdin.flush()
    return child


def _end(children: Collection[subprocess.Popen[bytes]]) -> None:
    for child in children:
        with suppress(BrokenPipeError):
            _stdin(child).close()  # and so it ends
    for child in children:
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_SECONDS)
        child.kill()
        child.wait()


def _stdin(child: subprocess.Popen[bytes]) -> IO[bytes]:
    assert child.stdin is not None  # it was started with a pipe
    return child.stdin
