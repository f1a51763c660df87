"""Times commands as whole processes, in turn, so that a machine whose speed drifts is fair to all of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
PEERS = ROOT / "benchmarks" / "peers"


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    seconds: float
    """Wall clock, of the whole process."""
    output: str
    gigabytes: float = 0.0
    """Most memory that it and its children held at a time, shared pages counted once; 0 where nobody asked."""

    def told(self, name: str) -> float:
        """Return the number that stands behind `name` in the last line that it printed."""
        words = self.output.split("\n")[-1].split()
        return float(words[words.index(name) + 1])


def python(*arguments: str) -> list[str]:
    """Return the command that runs this Python."""
    return [sys.executable, *arguments]


def run(command: Sequence[str], folder: Path, *, memory: bool = False) -> Run:
    """Run `command` in `folder`; what it prints on stderr is shown where it fails."""
    # nnscan from this checkout, wherever the command runs; after it what the caller has, as a folder with Optuna
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Ray puts its workers at niceness 15: on a machine that others use, too, everything else would come first
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RAY_worker_niceness": "0"}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=errors)
        most = _watched(process.pid) if memory else [0.0]
        status = process.wait()
        seconds = time.monotonic() - started
        output.seek(0), errors.seek(0)
        if status:
            raise SystemExit(
                f"{' '.join(command)} ended with {status}:\n{output.read()[-2000:]}{errors.read()[-3000:]}"
            )
        return Run(seconds, output.read().strip(), most[0])


def _watched(pid: int) -> list[float]:
    """Return a list whose one number a thread keeps at the most memory, GB, until the process ends."""
    most = [0.0]

    def watch() -> None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            while process.status() != psutil.STATUS_ZOMBIE:
                most[0] = max(most[0], sum(map(_proportional, [process, *process.children(recursive=True)])) / 1e9)
                time.sleep(0.5)

    threading.Thread(target=watch, daemon=True).start()
    return most


def _proportional(process: psutil.Process) -> float:
    """Return the bytes that a process holds, of pages that n processes share an n-th; 0 where it has ended."""
    with suppress(psutil.Error):
        return float(process.memory_full_info().pss)
    return 0.0


def spread(values: Sequence[float]) -> str:
    """Return the median of `values` with the smallest and the largest."""
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


def processor() -> str:
    """Return the name of the CPU and how many cores may be used."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{names[0] if names else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores"
