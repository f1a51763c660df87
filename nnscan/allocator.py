"""How a process that trains networks, or reads what millions did, keeps its memory: what is freed is taken again."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of mallopt(3)."""

SMALL_BYTES = 32 << 20
"""Blocks up to here are kept; glibc takes no larger value."""
FREE_BYTES = 1 << 30
"""So much free memory at the end of the heap is kept; by itself glibc keeps 64 MiB at most."""


def keep_memory() -> None:
    """Let this process keep what it frees, and take large blocks in huge pages. Linux with glibc; elsewhere nothing.

    By itself glibc hands the memory of every activation, or column of a table, back to the system, and the next one
    meets it page by page again (`docs/performance.md` has what that costs). For processes that are nnscan's own alone;
    called before torch is imported, which reads its environment once. What is set in the environment stays as it is.

    Blocks above 32 MiB go back all the same: to keep them, too, is faster still, but a network of large images then
    takes half as much memory again, which its job may not have.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's: blocks from 2 MiB on ask for huge pages
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return
    with suppress(OSError, AttributeError):  # other systems and C libraries have no such function
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, SMALL_BYTES)
        mallopt(TRIM_THRESHOLD, FREE_BYTES)
