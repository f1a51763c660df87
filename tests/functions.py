"""Training functions of a user's own, as tests of the launchers need them: quick, without torch, each with one habit.

They stand in a folder of their own kind, as a user's do: workers import this file by its name.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

Rows = Iterator[dict[str, float]]


def learn(*, rate: float, seed: int, fold: int | None, epochs: int, folder: str = "") -> Rows:
    """Yield a loss in closed form, exact in binary: rate / 2**epoch + the fold / 64."""
    note(folder, f"{rate} {fold}")
    for epoch in range(1, epochs + 1):
        yield {"val_loss": rate / 2**epoch + (fold or 0) / 64}


def without_fold(*, rate: float, seed: int) -> Rows:
    """Yield its rate: cannot be told to train on everything."""
    yield {"val_loss": rate}


def rising(*, rate: float, fold: int | None, epochs: int) -> Rows:
    """Yield a loss that is smallest at the second epoch."""
    for epoch in range(1, epochs + 1):
        yield {"val_loss": rate + abs(epoch - 2)}


def throw(*, rate: float, fold: int, words: str = "no such rate") -> Rows:
    """Throw in every fold of a rate above 1, after an epoch."""
    yield {"val_loss": rate}
    if rate > 1:
        raise UserError(words)
    yield {"val_loss": rate / 2}


class UserError(Exception):
    """An exception of a user's own."""


def diverge(*, rate: float, epochs: int) -> Rows:
    """Yield NaN from the second epoch on where the rate is above 1."""
    for epoch in range(1, epochs + 1):
        yield {"val_loss": float("nan") if rate > 1 and epoch > 1 else rate / epoch}


def die(*, rate: float, fold: int, folder: str, deaths: int, by: str = "SIGKILL") -> Rows:
    """End the own process by a signal in fold 1 of a rate above 1, the first `deaths` times."""
    yield {"val_loss": rate}
    if rate > 1 and fold == 1 and note(folder, "died") <= deaths:
        os.kill(os.getpid(), signal.Signals[by])
    yield {"val_loss": rate / 2}


def run_out_of_memory(*, rate: float, folder: str, times: int) -> Rows:
    """Run out of memory the first `times` times of a rate above 1."""
    if rate > 1 and note(folder, f"{rate}") <= times:
        raise MemoryError
    note(folder, f"done {rate}")
    yield {"val_loss": rate}


def interrupt(*, rate: float, folder: str) -> Rows:
    """Press Ctrl-C in the second epoch of a rate above 1, once."""
    yield {"val_loss": rate}
    if rate > 1 and note(folder, "pressed") == 1:
        raise KeyboardInterrupt
    yield {"val_loss": rate / 2}


def interrupt_retraining(*, rate: float, fold: int | None, folder: str) -> Rows:
    """Press Ctrl-C in the training on everything, once."""
    if fold is None and note(folder, "pressed") == 1:
        raise KeyboardInterrupt
    yield {"val_loss": rate}


def sleep(*, rate: float, fold: int | None, seconds: float, folder: str) -> Rows:
    """Take a while before the first epoch."""
    note(folder, f"{os.getpid()}")
    time.sleep(seconds)
    yield {"val_loss": rate + (fold or 0) / 64}


def misnamed(*, rate: float) -> Rows:
    """Yield another name than was told."""
    yield {"loss": rate}


def note(folder: str, words: str) -> int:
    """Add a line to `folder`/notes, and return how often it stands there now; no folder: nothing."""
    if not folder:
        return 0
    path = Path(folder) / "notes"
    with path.open("a") as file:  # one short line a call: appended whole, whoever else writes
        file.write(f"{words}\n")
    return path.read_text().splitlines().count(words)
