"""What a cluster is and allows, found before anything is submitted."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_ARRAY_SIZE = 1001
"""Slurm's own MaxArraySize: the highest task of an array is one below it."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What Slurm says of itself."""

    array_size: int = DEFAULT_ARRAY_SIZE
    """MaxArraySize."""
