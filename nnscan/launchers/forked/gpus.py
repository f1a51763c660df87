"""Which GPUs each of several workers of one machine may see."""

from __future__ import annotations

import os
from collections.abc import Sequence


def visible(count: int) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the `count` GPUs that torch sees here."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[:count] if named else [str(number) for number in range(count)]


def room(gpus_per_trial: float, count: int) -> int:
    """Return how many trials `count` GPUs take: each some of its own, or a part of one."""
    if gpus_per_trial >= 1:
        return count // int(gpus_per_trial)
    return count * _sharing(gpus_per_trial)


def share(place: int, gpus_per_trial: float, gpus: Sequence[str]) -> str:
    """Return the GPUs of the worker of a place, for CUDA_VISIBLE_DEVICES; "" where there are none.

    Examples
    --------
    >>> share(1, 2, ["0", "1", "2", "3"]), share(2, 0.5, ["0", "1"]), share(0, 0, [])
    ('2,3', '1', '')
    """
    if not gpus:
        return ""
    if gpus_per_trial >= 1:
        each = int(gpus_per_trial)
        return ",".join(gpus[place * each : (place + 1) * each])
    return gpus[place // _sharing(gpus_per_trial)]


def _sharing(gpus_per_trial: float) -> int:
    return int(1 / gpus_per_trial + 1e-9)  # 1 / 0.3333 is 3.0003, 1 / 0.1 is 10
