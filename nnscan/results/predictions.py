"""What a model said of its test set: the content of `predictions.parquet`, and what it was taken for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.results.selection import Floats, Integers


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The test set as a network sees it."""

    classes: tuple[str, ...]
    labels: Integers
    """(N,): true classes."""
    predicted: Integers
    """(N,)"""
    probabilities: Floats
    """(N, C)"""

    @property
    def correct(self) -> Floats:
        """(N,): 1 where the prediction is right, else 0."""
        right: Floats = (self.labels == self.predicted).astype(np.float64)
        return right

    @property
    def accuracy(self) -> float:
        """Fraction of right predictions."""
        return float(self.correct.mean())

    @property
    def confidences(self) -> Floats:
        """(N,): probability of the class that is predicted."""
        found: Floats = self.probabilities[np.arange(len(self.labels)), self.predicted]
        return found

    @property
    def true_probabilities(self) -> Floats:
        """(N,): probability of the true class."""
        found: Floats = self.probabilities[np.arange(len(self.labels)), self.labels]
        return found


def predictions(table: pa.Table, classes: Sequence[str]) -> Predictions:
    """Return the predictions in a table of columns `label`, `prediction`, `probabilities`, which has rows.

    Raises
    ------
    ValueError
        Where it names a class that is not one of `classes`, or has other than a probability a class.
    """
    probabilities = np.asarray(pc.list_flatten(table["probabilities"]).to_numpy(), dtype=np.float64)
    return Predictions(
        classes=tuple(classes),
        labels=_codes(table["label"], classes),
        predicted=_codes(table["prediction"], classes),
        probabilities=probabilities.reshape(len(table), len(classes)),
    )


def _codes(column: pa.ChunkedArray, classes: Sequence[str]) -> Integers:
    codes = pc.index_in(column, value_set=pa.array(list(classes), pa.string()))
    if codes.null_count:
        raise ValueError(f"it names a class that is none of {', '.join(classes)}")
    found: Integers = codes.to_numpy().astype(np.int64)
    return found


def confusion(told: Predictions) -> Integers:
    """Return counts of shape (C, C): rows are true classes, columns what was predicted."""
    count = len(told.classes)
    flat: Integers = np.bincount(told.labels * count + told.predicted, minlength=count * count)
    return flat.reshape(count, count)


def class_accuracy(counts: Integers) -> Floats:
    """Return the fraction of each true class that was told right, of a matrix of confusions; NaN without examples."""
    totals = counts.sum(axis=1)
    found: Floats = np.diag(counts) / np.where(totals, totals, math.nan)
    return found
