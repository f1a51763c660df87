from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nnscan.cli.sparks import EIGHTHS, LEVELS, bar, spark

VALUES = some.lists(some.floats(allow_nan=True, allow_infinity=True, width=32), max_size=200)


@pytest.mark.parametrize(
    ("values", "width", "drawn"),
    [
        pytest.param([], 5, "", id="nothing"),
        pytest.param([3.0, 3.0], 5, "▁▁", id="constant"),
        pytest.param([0, 7], 5, "▁█", id="from smallest to largest"),
        pytest.param([math.nan, 0, math.inf, 7], 5, " ▁ █", id="what is not finite is blank"),
        pytest.param([0, 0, 7, 7], 2, "▁█", id="means of neighbours"),
        pytest.param([math.nan, 0, 7, 7], 2, "▁█", id="means of those there are"),
        pytest.param([math.nan] * 3, 5, "   ", id="none finite"),
    ],
)
def test_a_spark_line_has_a_character_a_value(values: list[float], width: int, drawn: str) -> None:
    assert spark(values, width) == drawn


def test_two_lines_can_share_a_scale() -> None:
    assert spark([0, 1], 5, (0, 7)) + spark([6, 7], 5, (0, 7)) == "▁▂▇█"


@given(values=VALUES, width=some.integers(1, 60))
def test_any_values_are_drawn_within_the_width(values: list[float], width: int) -> None:
    drawn = spark(values, width)
    assert len(drawn) == min(len(values), width)
    assert set(drawn) <= {*LEVELS, " "}


@given(values=some.lists(some.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_larger_values_are_never_drawn_lower(values: list[float]) -> None:
    levels = [LEVELS.index(one) for one in spark(values, 40)]
    pairs = sorted(zip(values, levels, strict=True))
    assert [level for _, level in pairs] == sorted(levels)


@pytest.mark.parametrize(
    ("share", "eighths"), [(0.0, 0), (1.0, 80), (0.5, 40), (0.4875, 39), (-1, 0), (2, 80), (math.nan, 0)]
)
def test_a_bar_is_as_long_as_its_share(share: float, eighths: int) -> None:
    drawn = bar(share, 10)
    assert sum(EIGHTHS.index(cell) for cell in drawn) == eighths
