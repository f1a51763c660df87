"""The calibration error against closed forms and a loop of its own."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.results.calibration import expected_calibration_error


@pytest.mark.parametrize(
    ("confidences", "right", "expected"),
    [
        pytest.param([1.0, 1.0], [True, True], 0.0, id="sure and right"),
        pytest.param([1.0, 1.0], [False, False], 1.0, id="sure and wrong"),
        pytest.param([0.5] * 4, [True, False, True, False], 0.0, id="half sure, half right"),
        pytest.param([0.75] * 4, [True, True, True, True], 0.25, id="too modest"),
        pytest.param([0.9, 0.6], [True, False], (0.1 + 0.6) / 2, id="two groups, which do not cancel"),
        pytest.param([0.61, 0.65], [True, False], abs(0.5 - 0.63), id="one group, within which gaps cancel"),
        pytest.param([0.0], [False], 0.0, id="no confidence falls into the first group"),
    ],
)
def test_closed_forms(confidences: list[float], right: list[bool], expected: float) -> None:
    found = expected_calibration_error(np.array(confidences), np.array(right))
    assert found == pytest.approx(expected, abs=1e-12)


def test_an_interval_holds_its_upper_end() -> None:
    # With 4 groups 0.5 is in (0.25, 0.5] with 0.3, and not with 0.6.
    confidences, right = np.array([0.3, 0.5, 0.6]), np.array([True, False, True])
    assert expected_calibration_error(confidences, right, 4) == pytest.approx((abs(1 - 0.8) + 0.4) / 3)


def test_a_confidence_of_float32_above_1_counts_as_1() -> None:
    above = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    assert expected_calibration_error(above, np.array([True, True])) == pytest.approx(0, abs=1e-6)


def by_loop(confidences: list[float], right: list[bool], bins: int) -> float:
    """Equation 5 of Guo et al. 2017, written out."""
    total = 0.0
    for number in range(1, bins + 1):
        members = [
            index
            for index, one in enumerate(confidences)
            if (number - 1) / bins < one <= number / bins or (one == 0 and number == 1)
        ]
        if members:
            accuracy = sum(right[index] for index in members) / len(members)
            confidence = math.fsum(confidences[index] for index in members) / len(members)
            total += len(members) / len(confidences) * abs(accuracy - confidence)
    return total


tests = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


@given(tests, st.integers(1, 20))
def test_it_is_what_a_plain_loop_gives(test: list[tuple[float, bool]], bins: int) -> None:
    confidences, right = ([one[part] for one in test] for part in (0, 1))
    found = expected_calibration_error(np.array(confidences), np.array(right), bins)
    assert found == pytest.approx(by_loop(confidences, right, bins), abs=1e-9)


@given(tests)
def test_it_is_a_fraction_and_knows_no_order(test: list[tuple[float, bool]]) -> None:
    confidences, right = (np.array([one[part] for one in test]) for part in (0, 1))
    found = expected_calibration_error(confidences, right)
    assert 0 <= found <= 1
    assert expected_calibration_error(confidences[::-1], right[::-1]) == pytest.approx(found, abs=1e-12)
    # More groups can only part what cancelled within one.
    assert (
        expected_calibration_error(confidences, right, 1) <= expected_calibration_error(confidences, right, 8) + 1e-12
    )


@pytest.mark.parametrize(("confidences", "right"), [([], []), ([0.5], [True, False])], ids=["nothing", "two lengths"])
def test_what_is_no_test_is_refused(confidences: list[float], right: list[bool]) -> None:
    with pytest.raises(ValueError, match="accepted"):
        expected_calibration_error(np.array(confidences), np.array(right))


def test_it_needs_no_torch() -> None:
    code = "import sys, nnscan.results.calibration; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
