"""How far what a retrained winner says of the test set can be trusted: calibration, probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnscan.results.calibration import BINS, expected_calibration_error
from nnscan.results.selection import Floats, Integers

PROBABILITY_BINS = 100


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
