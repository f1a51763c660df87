"""The launching process needs no more memory for many finished trials than for few."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from launched import FINDS_NNSCAN

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "launch_memory.py"


@pytest.mark.slow
def test_memory_is_flat_in_the_number_of_finished_trials() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--trials", "2000"],
        env=FINDS_NNSCAN,
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split("|")[1:3] for line in done.stdout.splitlines()[2:]]
    memory = {int(ended): float(mebibytes.removesuffix(" MiB ")) for ended, mebibytes in rows}
    first, last = min(memory), max(memory)
    assert first < 400 and last == 2000, done.stdout
    assert memory[last] < memory[first] + 8.0, done.stdout
