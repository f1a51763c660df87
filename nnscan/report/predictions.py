"""What a retrained winner says of the test set: confusions, accuracy of each class, calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.results.calibration import BINS, expected_calibration_error
from nnscan.results.selection import Floats, Integers

PROBABILITY_BINS = 100


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


def predictions(table: pa.Table, classes: Sequence[str]) -> Predictions | None:
    """Return the predictions in a table of columns `label`, `prediction`, `probabilities`; None of an empty one.

    Raises
    ------
    ValueError
        Where it names a class that is not one of `classes`, or has other than a probability a class.
    """
    if not len(table):
        return None
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


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far confidence can be trusted, bin by bin."""

    edges: Floats
    """(B + 1,)"""
    counts: Integers
    """(B,)"""
    confidences: Floats
    """(B,): mean confidence; NaN of an empty bin."""
    accuracies: Floats
    """(B,): fraction that is right; NaN of an empty bin."""
    error: float
    """The expected calibration error: the mean gap of accuracy and confidence, weighted by examples."""


def reliability(confidences: Floats, correct: Floats, bins: int = BINS) -> Reliability:
    """Return the reliability of N predictions, grouped by confidence in bins of equal width, ]low, high].

    Parameters
    ----------
    confidences : array of shape (N,)
        Probability of the class that is predicted, 0 to 1.
    correct : array of shape (N,)
        1 where the prediction is right, else 0.

    References
    ----------
    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2.
    """
    edges = np.arange(1, bins + 1) / bins
    places = np.minimum(np.searchsorted(edges, confidences), bins - 1)
    counts: Integers = np.bincount(places, minlength=bins)
    divisor = np.where(counts, counts, math.nan)
    return Reliability(
        edges=np.linspace(0, 1, bins + 1),
        counts=counts,
        confidences=np.bincount(places, weights=confidences, minlength=bins) / divisor,
        accuracies=np.bincount(places, weights=correct, minlength=bins) / divisor,
        error=expected_calibration_error(confidences, correct > 0, bins),
    )


def probability_histogram(probabilities: Floats, bins: int = PROBABILITY_BINS) -> tuple[Integers, Floats]:
    """Return counts and edges of probabilities in bins of equal width over 0 to 1."""
    counts, edges = np.histogram(np.clip(probabilities, 0, 1), bins=bins, range=(0, 1))
    return counts.astype(np.int64), edges
