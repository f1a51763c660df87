from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.results.metric import METRICS, PER_CLASS, RESERVED, best_epoch, smallest_wins
from nnscan.results.schema import EPOCHS_FIRST, EPOCHS_LAST, STEPS, TRIALS


@pytest.mark.parametrize(
    ("name", "smallest"),
    [("val_loss", True), ("error", True), ("rmse_error", True), ("val_accuracy", False), ("losses", False)],
)
def test_losses_and_errors_are_best_smallest(name: str, smallest: bool) -> None:
    assert smallest_wins(name) is smallest


@pytest.mark.parametrize(
    ("values", "smallest", "best"),
    [
        ([0.1, 0.9, 0.5], False, 1),
        ([0.1, 0.9, 0.5], True, 0),
        ([0.5, 0.9, 0.9], False, 1),
        ([math.nan, 0.3, 0.2], False, 1),
        ([math.nan, math.nan], False, None),
        ([], True, None),
        ([math.inf, 1.0], True, 1),
        ([math.inf, 1.0], False, 0),
    ],
)
def test_the_first_of_the_best_is_the_best_epoch(values: list[float], smallest: bool, best: int | None) -> None:
    assert best_epoch(values, smallest) == best


@given(st.lists(st.floats()), st.booleans())
def test_no_epoch_is_better_than_the_best(values: list[float], smallest: bool) -> None:
    best = best_epoch(values, smallest)
    numbers = [value for value in values if not math.isnan(value)]
    expected = (min if smallest else max)(numbers, default=None)
    assert (None if best is None else values[best]) == expected
    assert best is None or expected not in values[:best]


def test_every_fixed_column_is_reserved() -> None:
    fixed = {*TRIALS, *EPOCHS_FIRST, *EPOCHS_LAST, *STEPS}
    assert fixed | PER_CLASS | {"epoch_seconds"} == RESERVED
    assert RESERVED & set(METRICS) == {"epoch_seconds", "val_class_accuracy"}
