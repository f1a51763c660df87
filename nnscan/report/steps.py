"""What was recorded of single steps: accuracy of each batch, norms of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.results.scores import floats
from nnscan.results.selection import Floats, Integers

ACCURACY = "accuracy"
GRADIENT_NORM = "gradient_norm/"
"""What names in steps/ begin with, the parameter's name behind it."""


@dataclass(frozen=True, kw_only=True)
class StepCurve:
    """A value of each step of a training."""

    name: str
    values: Floats
    """(S,): in the order of the steps."""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The recorded steps of one trial."""

    curves: tuple[StepCurve, ...]
    """In the order in which they were recorded."""
    starts: Integers
    """(E,): number of the first step of each epoch."""
    epochs: Integers
    """(E,): numbers of the epochs."""

    @property
    def accuracy(self) -> StepCurve | None:
        """Of the batches, where it was recorded."""
        return next((curve for curve in self.curves if curve.name == ACCURACY), None)

    @property
    def gradient_norms(self) -> tuple[StepCurve, ...]:
        """Of each parameter that is no bias, from the input to the output; named by the parameter."""
        named = (curve for curve in self.curves if curve.name.startswith(GRADIENT_NORM))
        return tuple(
            StepCurve(name=curve.name.removeprefix(GRADIENT_NORM), values=curve.values)
            for curve in named
            if not curve.name.endswith("bias")
        )


def steps(table: pa.Table) -> Steps | None:
    """Return the steps of one trial from its rows of steps/ (`epoch`, `step`, `name`, `value`); None without any."""
    if not len(table):
        return None
    numbers = table["epoch"].to_numpy().astype(np.int64), table["step"].to_numpy().astype(np.int64)
    pairs, places = np.unique(np.stack(numbers, axis=1), axis=0, return_inverse=True)
    epochs, starts = np.unique(pairs[:, 0], return_index=True)
    return Steps(curves=tuple(_curves(table, places.reshape(-1), len(pairs))), starts=starts, epochs=epochs)


def _curves(table: pa.Table, places: Integers, count: int) -> Iterator[StepCurve]:
    values = floats(table["value"])
    for name in pc.unique(table["name"]).to_pylist():
        rows = pc.equal(table["name"], name).to_numpy().astype(bool)
        curve = np.full(count, math.nan)
        curve[places[rows]] = values[rows]
        yield StepCurve(name=name, values=curve)
