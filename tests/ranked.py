"""Networks that misbehave on one rank, or on all, at a pass of their own choice: as a user's model might."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import get_rank, is_initialized  # type: ignore[attr-defined]

ALL = -1


class UserError(Exception):
    """An exception of a user's own."""


def troubled(
    *, input_shape: tuple[int, ...], classes: int, trouble: str, rank: int = ALL, at: int = 3, once: str = ""
) -> nn.Module:
    """Return a small network in which `trouble` comes at pass `at` of `rank`; 0: while it is built.

    With a file `once` the trouble comes only while there is no such file, and makes it.
    """
    network = Troubled(input_shape, classes, Trouble(trouble, rank, at, once))
    network.trouble.meet(0)
    return network


class Trouble:
    """What goes wrong, where, and when."""

    def __init__(self, kind: str, rank: int, at: int, once: str) -> None:
        self.kind, self.rank, self.at, self.once = kind, rank, at, once

    def meet(self, number: int) -> None:
        here = get_rank() if is_initialized() else 0  # type: ignore[no-untyped-call]
        if self.kind == "none" or number != self.at or self.rank not in (ALL, here):
            return
        if self.once:
            mark = Path(f"{self.once}.{here}")
            if mark.exists():
                return
            mark.touch()
        getattr(self, self.kind)()

    def throw(self) -> Any:
        raise UserError(f"trouble on {self.rank}")

    def memory(self) -> Any:
        raise MemoryError

    def kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def exit(self) -> None:
        os._exit(0)


class Troubled(nn.Module):
    """A multi-layer perceptron with one hidden layer and a trouble."""

    def __init__(self, input_shape: tuple[int, ...], classes: int, trouble: Trouble) -> None:
        super().__init__()
        inputs = int(torch.tensor(input_shape).prod())
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, classes))
        self.trouble = trouble
        self.passes = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs of a batch."""
        self.passes += 1
        self.trouble.meet(self.passes)
        outputs: Tensor = self.layers(inputs)
        return outputs
