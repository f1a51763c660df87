"""Times commands as whole processes, in turn, so that a machine whose speed drifts is fair to all of them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    seconds: float
    """Wall clock, of the whole process."""
    output: str


def python(*arguments: str) -> list[str]:
    """Return the command that runs this Python."""
    return [sys.executable, *arguments]


def run(command: Sequence[str], folder: Path) -> Run:
    """Run `command` in `folder`; what it prints on stderr is shown where it fails."""
    started = time.monotonic()
    # nnscan from this checkout, wherever the command runs
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return Run(time.monotonic() - started, done.stdout.strip())


def spread(values: Sequence[float]) -> str:
    """Return the median of `values` with the smallest and the largest."""
    return f"{statistics.median(values):.1f} s ({min(values):.1f} to {max(values):.1f})"


def processor() -> str:
    """Return the name of the CPU and how many cores may be used."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{names[0] if names else 'unknown CPU'}, {len(os.sched_getaffinity(0))} cores"
