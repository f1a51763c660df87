from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.report.predictions import probability_histogram, reliability


def test_reliability_by_hand() -> None:
    """Two bins: 0.2 and 0.4 of which one is right, 0.9 and 1.0 of which both are."""
    told = reliability(np.array([0.2, 0.4, 0.9, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]), bins=2)
    np.testing.assert_array_equal(told.counts, [2, 2])
    np.testing.assert_allclose(told.confidences, [0.3, 0.95])
    np.testing.assert_allclose(told.accuracies, [0.5, 1.0])
    assert told.error == pytest.approx((2 * 0.2 + 2 * 0.05) / 4)


def test_bins_hold_their_upper_edge() -> None:
    np.testing.assert_array_equal(reliability(np.array([0.0, 0.5, 0.51]), np.ones(3), bins=2).counts, [2, 1])


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_the_calibration_error_equals_a_plain_loop(examples: list[tuple[float, bool]]) -> None:
    groups: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in examples:
        groups.setdefault(min(max(math.ceil(confidence * 15) - 1, 0), 14), []).append((confidence, right))
    gaps = (abs(sum(c for c, _ in group) - sum(r for _, r in group)) for group in groups.values())
    found = reliability(np.array([c for c, _ in examples]), np.array([float(r) for _, r in examples]))
    assert found.error == pytest.approx(sum(gaps) / len(examples), abs=1e-12)


def test_a_histogram_has_a_hundred_bins_over_zero_to_one() -> None:
    counts, edges = probability_histogram(np.array([0.0, 0.005, 0.999, 1.0, 1.0000001]))
    assert (len(counts), edges[0], edges[-1]) == (100, 0.0, 1.0)
    assert (counts[0], counts[-1], counts.sum()) == (2, 3, 5)
