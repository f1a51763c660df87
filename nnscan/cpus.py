"""How many CPUs there are to use."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Return the CPUs that this process may run on: fewer than there are inside a container or a Slurm job."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
