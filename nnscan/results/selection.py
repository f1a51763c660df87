"""Which configuration won, which are not worse as far as the folds can tell, and for how long to retrain the winner.

Pure functions over arrays of scores; nothing here reads a file. Scores are validation scores: nothing is ever ranked
on the test set.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

CONFIDENCE = 0.95
"""Of the one-sided test that parts the winner from a rival."""

DIGITS = 12
"""Significant digits in which means are compared: 0.9 + 0.8 and 0.85 + 0.85 are one mean, their float sums are two."""


@dataclass(frozen=True)
class RetrainingEpochs:
    """For how long to retrain a winner, and what its curves promise for that epoch."""

    epochs: int
    """Epochs to train: at least 1, but of a network that is not trained at all."""

    mean: float
    """Mean of the metric over the curves at that epoch."""

    std: float
    """Sample standard deviation of the curves at that epoch; NaN for a single curve."""


def rank(means: Floats, parameters: Integers, keys: pa.StringArray, *, smallest: bool) -> Integers:
    """Return the order of configurations, the winner first: best mean, then fewer parameters, then smaller key.

    Parameters
    ----------
    means, parameters, keys : of length C
        Mean score, number of weights and key of each configuration; no NaN.
    smallest : bool
        Whether the smallest mean is the best.
    """
    rounded = significant(means if smallest else -means)
    order = np.lexsort((parameters, rounded))
    next_equal = (np.diff(rounded[order]) == 0) & (np.diff(parameters[order]) == 0)
    undecided = np.append(next_equal, False) | np.insert(next_equal, 0, False)
    if undecided.any():  # keys are text: compared only where nothing else decides
        members = order[undecided]
        texts = np.array(keys.take(pa.array(members)).to_pylist())
        order[undecided] = members[np.lexsort((texts, parameters[members], rounded[members]))]
    return order


def significant(values: Floats, digits: int = DIGITS) -> Floats:
    """Return `values` rounded to so many significant digits, elementwise."""
    with np.errstate(divide="ignore"):
        exponents = np.floor(np.log10(np.abs(values)))
    places = np.where(np.isfinite(exponents), digits - 1 - exponents, 0.0)
    scales = 10.0 ** np.clip(places, -300.0, 300.0)
    rounded: Floats = np.round(values * scales) / scales
    return rounded


def ties(scores: Floats, winner: int, *, validation_ratio: float, smallest: bool) -> Flags:
    """Return for each configuration whether its scores leave open that it is as good as the winner.

    The one-sided corrected resampled paired t-test: tied where the mean difference d to the winner is at most
    `t(0.95, n-1) * s_d * sqrt(1/n + n_val/n_train)`. The second term stands for the training sets that folds share,
    which makes their scores dependent.

    Parameters
    ----------
    scores : array of shape (C, n)
        A row a configuration, a column a (fold, replicate): paired.
    winner : int
        Row of the winner, which counts as tied with itself.
    validation_ratio : float
        `n_val / n_train` (`validation_ratio`).
    smallest : bool
        Whether small scores are good.

    Returns
    -------
    array of shape (C,), bool
        With n = 1 there is no spread to judge by: only the winner itself is True.

    References
    ----------
    Nadeau and Bengio 2003, "Inference for the generalization error", Machine Learning 52, section 3 (the corrected
    resampled t-test).
    """
    n = scores.shape[1]
    if n < 2:
        alone: Flags = np.arange(len(scores)) == winner
        return alone
    differences = (scores - scores[winner]) if smallest else (scores[winner] - scores)
    spread = differences.std(axis=1, ddof=1)
    limit = tie_factor(n, validation_ratio) * spread
    # Differences of a constant have a spread of rounding errors only; so has their mean.
    slack = 1e-12 * np.abs(scores).max(axis=1)
    tied: Flags = differences.mean(axis=1) <= limit + slack
    return tied


def tie_factor(n: int, validation_ratio: float) -> float:
    """Return how many standard deviations of the paired difference a tied mean may lag: 1.43 for 5 folds."""
    return t_quantile(CONFIDENCE, n - 1) * math.sqrt(1 / n + validation_ratio)


def validation_ratio(validation: Mapping[str, Any]) -> float:
    """Return `n_val / n_train` of the settings `validation`: 1/(k-1) of k folds, h/(1-h) of a hold-out h.

    Examples
    --------
    >>> validation_ratio({"folds": 5})
    0.25
    """
    if "folds" in validation:
        return 1 / (int(validation["folds"]) - 1)
    holdout = float(validation["holdout"])
    return holdout / (1 - holdout)


@functools.cache
def t_quantile(probability: float, degrees: int) -> float:
    """Return the quantile of Student's t distribution with `degrees` (>= 1) degrees of freedom.

    The distribution function of whole degrees of freedom is a finite sum in the angle `atan(t / sqrt(degrees))`; it is
    inverted by bisection. scipy has the same, and takes a second to import.

    References
    ----------
    Abramowitz and Stegun 1964, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.

    Examples
    --------
    >>> round(t_quantile(0.95, 4), 4)
    2.1318
    """
    low, high = -math.pi / 2, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if (1 + _central(middle, degrees)) / 2 >= probability else (middle, high)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _central(angle: float, degrees: int) -> float:
    """Probability that `|T|` stays below `sqrt(degrees) * tan(angle)`, negative for a negative angle."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = sine * (cosine if odd else 1.0)
    total = term if degrees > 1 else 0.0
    for k in range(1 + odd, degrees - 2, 2):
        term *= cosine * cosine * k / (k + 1)
        total += term
    return (angle + total) * 2 / math.pi if odd else total


def cheapest(tied: Flags, order: Integers, parameters: Integers) -> int:
    """Return which of the tied configurations has the fewest parameters; of several the better ranked."""
    candidates = order[tied[order]]
    return int(candidates[np.argmin(parameters[candidates])])


def retraining_epochs(curves: Sequence[Floats], *, smallest: bool, least: int = 1) -> RetrainingEpochs:
    """Return for how many epochs to retrain a winner: the best epoch of its mean curve, the first on ties.

    Parameters
    ----------
    curves : sequence of n arrays
        The metric of each of the winner's trials; the index is the epoch, 0 before training, NaN where there is none.
        A curve that ends early is carried on from its last value.
    smallest : bool
        Whether small values are good.
    least : int
        Fewest epochs that are a retraining; 0 of a winner that was not trained in the scan either.

    Raises
    ------
    ValueError
        Where no epoch has a value in every curve.
    """
    matrix = carried_on(curves)
    means = matrix.sum(axis=0) / max(len(matrix), 1)
    if not np.isfinite(means).any():
        raise ValueError("no epoch has a value of the metric in every curve")
    rounded = significant(means)
    best = int(np.nanargmin(rounded) if smallest else np.nanargmax(rounded))
    epoch = max(least, best)
    values = matrix[:, min(epoch, matrix.shape[1] - 1)]
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return RetrainingEpochs(epochs=epoch, mean=float(values.mean()), std=spread)


def carried_on(curves: Sequence[Floats]) -> Floats:
    """Return the curves as rows of one matrix, each NaN after a first value replaced by the value before it."""
    length = max((len(curve) for curve in curves), default=0)
    matrix = np.full((len(curves), length), math.nan)
    for row, curve in zip(matrix, curves, strict=True):
        row[: len(curve)] = curve
    known = np.where(np.isnan(matrix), -1, np.arange(length))
    source = np.maximum.accumulate(known, axis=1)
    carried = np.take_along_axis(matrix, np.maximum(source, 0), axis=1)
    return np.where(source >= 0, carried, math.nan)
