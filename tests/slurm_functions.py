"""Training functions and a model of a user's own, as tests of what befalls jobs need them: each with one habit."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

Rows = Iterator[dict[str, float]]


def wait(*, rate: float, seconds: float, epochs: int, folder: str) -> Rows:
    """Take so long an epoch, unless there is a file `hurry`; note where."""
    note(folder, f"{rate} {socket.gethostname()}")
    for epoch in range(1, epochs + 1):
        if not (Path(folder) / "hurry").exists():
            time.sleep(seconds)
        yield {"val_loss": rate / 2**epoch}


def deaf(*, rate: float, seconds: float, folder: str) -> Rows:
    """Hear nothing for a while, the first time."""
    if note(folder, "begun") == 1:
        time.sleep(seconds)
    yield {"val_loss": rate}


def hungry(*, rate: float, folder: str) -> Rows:
    """Take more and more memory where the rate is above 1."""
    note(folder, f"{rate}")
    held = []
    while rate > 1:
        held.append(bytearray(20_000_000))
        time.sleep(0.02)
    yield {"val_loss": rate}


def crash(*, rate: float, folder: str) -> Rows:
    """Die within C where the rate is 2 or 3."""
    note(folder, f"{rate}")
    print(f"about to train at {rate}", flush=True)
    if rate == 2:
        os.abort()
    if rate == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    yield {"val_loss": rate}


def note(folder: str, words: str) -> int:
    """Add a line to `folder`/notes, and return how often it stands there now."""
    path = Path(folder) / "notes"
    with path.open("a") as file:
        file.write(f"{words}\n")
    return path.read_text().splitlines().count(words)


def plain_mlp(*, input_shape: tuple[int, ...], classes: int, seed: int) -> Any:
    """Return a network without a habit."""
    from torch import manual_seed, nn

    manual_seed(seed)
    size = prod(input_shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(size, 16), nn.ReLU(), nn.Linear(16, classes))


def slow_mlp(*, input_shape: tuple[int, ...], classes: int, seed: int) -> Any:
    """Return a network with dropout that pauses at each batch, as the file that NNSCAN_TEST_PAUSE names says."""
    from torch import Tensor, nn

    class Pause(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            if "NNSCAN_TEST_PAUSE" in os.environ:
                time.sleep(float(Path(os.environ["NNSCAN_TEST_PAUSE"]).read_text()))
            return inputs

    return nn.Sequential(Pause(), nn.Dropout(0.2), plain_mlp(input_shape=input_shape, classes=classes, seed=seed))
