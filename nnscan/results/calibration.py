"""How far a classifier's probabilities are from what happens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""As in most of the literature since Guo et al. 2017."""


def expected_calibration_error(
    probabilities: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Return the expected calibration error of a classifier's predictions.

    Parameters
    ----------
    probabilities : array of shape (N,), float
        Of the predicted class of each example, its confidence, in [0, 1].
    right : array of shape (N,), bool
        Whether the prediction is the true class.
    bins : int
        Number M of intervals ((m - 1)/M, m/M] of equal width in which confidences are grouped; 0 is in the first.

    Returns
    -------
    float
        Mean gap between a group's accuracy and its mean confidence, weighted by examples: a fraction, 0 is perfect.

    Raises
    ------
    ValueError
        Where there are no examples, or the arrays are not of one length.

    References
    ----------
    Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2, equation 5.

    Examples
    --------
    >>> expected_calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
    0.25
    """
    if not len(probabilities) or probabilities.shape != right.shape:
        raise ValueError(f"found {probabilities.shape} probabilities and {right.shape} hits; accepted: one each, N > 0")
    confidences = probabilities.astype(np.float64)
    edges = np.arange(1, bins + 1) / bins
    group = np.minimum(np.searchsorted(edges, confidences), bins - 1)  # float32 may sum to a little above 1
    gaps = np.bincount(group, weights=right - confidences, minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))
