from __future__ import annotations

import os
import subprocess
import sys

import pytest

BLOCK_BYTES = 24_000_000
BLOCKS = 80
FAULTS = f"""
import resource
from nnscan.allocator import keep_memory
keep_memory()
b"x" * {BLOCK_BYTES}
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({BLOCKS}):
    b"x" * {BLOCK_BYTES}  # filled, so every page of it is met
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_met(**environment: str) -> int:
    """Return how many pages a process met anew in blocks of which at most one lives at a time."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**clean, **environment}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no mallopt")
def test_what_is_freed_is_taken_again_and_a_users_word_on_malloc_stands() -> None:
    in_all = BLOCKS * BLOCK_BYTES // 4096
    assert pages_met() < in_all / 20
    assert pages_met(MALLOC_MMAP_THRESHOLD_="65536") > in_all * 0.9, "each block goes back, and comes anew"
