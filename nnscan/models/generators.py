"""torch's own generators, which networks draw from."""

from __future__ import annotations

from functools import cache

import torch


def seed_torch(seed: int) -> None:
    """Seed torch's generators, on every device that there is, as `torch.manual_seed` does.

    Where no device but the CPU is there, that function takes a millisecond of each epoch and keeps something of every
    call: three times it writes down the call stack, for devices that may come later.
    """
    if _has_other_devices():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@cache
def _has_other_devices() -> bool:
    return torch.accelerator.is_available()
