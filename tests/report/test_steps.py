from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from nnscan.report.drawing.steps import smooth
from nnscan.report.steps import steps


def table(rows: list[tuple[int, int, str, float]]) -> pa.Table:
    names = ("epoch", "step", "name", "value")
    return pa.table({name: [row[index] for row in rows] for index, name in enumerate(names)})


ROWS = [
    (epoch, step, name, 10.0 * epoch + step + shift)
    for epoch in (1, 2)
    for step in range(3)
    for shift, name in ((0.0, "accuracy"), (0.5, "gradient_norm/0.weight"), (0.1, "gradient_norm/0.bias"))
]


@pytest.mark.parametrize("order", [1, -1], ids=["as written", "backwards"])
def test_steps_are_counted_through_the_epochs(order: int) -> None:
    found = steps(table(ROWS[::order]))
    assert found is not None
    np.testing.assert_array_equal(found.starts, [0, 3])
    np.testing.assert_array_equal(found.epochs, [1, 2])
    assert found.accuracy is not None
    np.testing.assert_array_equal(found.accuracy.values, [10, 11, 12, 20, 21, 22])


def test_gradient_norms_are_those_of_weights() -> None:
    found = steps(table(ROWS))
    assert found is not None
    (weight,) = found.gradient_norms
    assert weight.name == "0.weight"
    np.testing.assert_array_equal(weight.values, [10.5, 11.5, 12.5, 20.5, 21.5, 22.5])


def test_a_step_without_a_value_is_a_gap() -> None:
    found = steps(table([(1, 0, "accuracy", 0.5), (1, 1, "loss", 2.0), (1, 2, "accuracy", 0.7)]))
    assert found is not None
    assert found.accuracy is not None
    np.testing.assert_array_equal(found.accuracy.values, [0.5, math.nan, 0.7])


def test_nothing_recorded_is_nothing() -> None:
    assert steps(table([]).slice(0, 0)) is None


def test_a_running_mean_stands_at_the_middle_of_its_window() -> None:
    np.testing.assert_allclose(smooth(np.array([1.0, 2.0, 6.0, 0.0]), 3), [math.nan, 3.0, 8 / 3, math.nan])
