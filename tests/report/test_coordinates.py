from __future__ import annotations

import numpy as np
import pytest
from scan_by_hand import GRID, all_scored, configuration, plan_of, trials_of

from nnscan.report.coordinates import Coordinates, coordinates
from nnscan.results.summary import summarize


def view(points: list[dict], score, *, smallest: bool = False) -> Coordinates | None:
    metric = "val_loss" if smallest else "val_accuracy"
    rows = [{**row, "metric": metric} for row in all_scored(score, points)]
    (family,) = summarize(plan_of({"A": points}), trials_of(rows, points), metric=metric).families
    return coordinates(family, smallest=smallest)


def test_the_worst_comes_first_and_each_line_meets_its_values() -> None:
    found = view(GRID, lambda index, fold: index)  # widths 32, 64, 128, rates 0.1 and 0.001 each
    assert found is not None
    assert [axis.path for axis in found.axes] == ["model.width", "optimizer.learning_rate"]
    assert found.axes[0].values == (32, 64, 128)
    np.testing.assert_array_equal(found.scores, range(6))
    assert (found.low, found.high) == (0, 5)
    nearest = np.abs(found.heights[:, :1] - found.axes[0].places).argmin(axis=1)
    np.testing.assert_array_equal(nearest, [0, 0, 1, 1, 2, 2])
    nearest = np.abs(found.heights[:, 1:] - found.axes[1].places).argmin(axis=1)
    np.testing.assert_array_equal(nearest, [1, 0] * 3)


def test_lines_through_one_value_lie_apart_the_better_the_higher() -> None:
    found = view(GRID, lambda index, fold: index)
    assert found is not None
    assert found.heights[0, 0] < found.axes[0].places[0] < found.heights[1, 0]
    assert (np.diff(found.heights[1::2, 1]) > 0).all()


def test_small_is_high_where_small_is_best() -> None:
    found = view(GRID, lambda index, fold: 1.0 + index, smallest=True)
    assert found is not None
    assert (found.low, found.high) == (6, 1)
    np.testing.assert_array_equal(found.scores, [6, 5, 4, 3, 2, 1])


def test_an_option_that_some_lack_has_a_place_for_none() -> None:
    points = [configuration(width, optimizer=name) for width in (8, 16) for name in ("adam", "sgd")]
    found = view(points, lambda index, fold: index)
    assert found is not None
    momentum = next(axis for axis in found.axes if axis.path == "optimizer.name")
    assert momentum.values == ("adam", "sgd")


@pytest.mark.parametrize(
    "points", [GRID[:2], [configuration(width) for width in (8, 16, 32)]], ids=["two points", "one axis"]
)
def test_too_little_to_see_is_not_shown(points: list[dict]) -> None:
    assert view(points, lambda index, fold: index) is None
