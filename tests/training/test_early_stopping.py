import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trials import trial

from nnscan.training.early_stopping import stop
from nnscan.trial import Kind, Trial

values = st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, math.nan, math.inf]), max_size=30)


def patient(patience: int, monitor: str = "val_loss", kind: Kind = Kind.TRIAL) -> Trial:
    return trial(training={"early_stopping": {"patience": patience, "monitor": monitor}}, kind=kind)


def rows(values: list[float], name: str = "val_loss") -> list[dict[str, Any]]:
    return [{name: value} for value in values]


def stops_at(values: list[float], one: Trial, name: str = "val_loss") -> int | None:
    """Return how many rows there are when training stops first."""
    return next((n for n in range(len(values) + 1) if stop(rows(values[:n], name), one)), None)


def by_the_window(values: list[float], patience: int) -> int | None:
    """The rule in other words: none of the last `patience` losses is at most the best before them."""
    for count in range(patience + 1, len(values) + 1):
        best = min((value for value in values[: count - patience] if math.isfinite(value)), default=math.inf)
        if not any(math.isfinite(value) and value <= best for value in values[count - patience : count]):
            return count
    return None


@given(values=values, patience=st.integers(1, 5))
def test_stop_equals_the_rule_of_the_last_values(values: list[float], patience: int) -> None:
    assert stops_at(values, patient(patience)) == by_the_window(values, patience)


@given(values=values, patience=st.integers(1, 5))
def test_stop_comes_exactly_patience_epochs_after_the_last_best(values: list[float], patience: int) -> None:
    count = stops_at(values, patient(patience))
    if count is not None:
        seen = [value if math.isfinite(value) else math.inf for value in values[:count]]
        best = max((i for i, value in enumerate(seen) if value == min(seen) < math.inf), default=0)
        assert count - 1 == best + patience


@given(values=values, patience=st.integers(1, 5))
def test_a_metric_of_which_more_is_better_is_mirrored(values: list[float], patience: int) -> None:
    mirrored = [-value for value in values]
    found = stops_at(mirrored, patient(patience, "val_accuracy"), "val_accuracy")
    assert found == stops_at(values, patient(patience))


def test_a_tie_is_an_improvement() -> None:
    assert stops_at([1.0, 0.5, 0.6, 0.5, 0.6, 0.7], patient(2)) == 6


@pytest.mark.parametrize(("values", "count"), [([math.nan] * 9, 4), ([0.5, *[math.nan] * 9], 4)])
def test_nan_is_no_improvement(values: list[float], count: int) -> None:
    assert stops_at(values, patient(3)) == count


def test_a_metric_that_epoch_0_lacks_counts_from_epoch_1() -> None:
    assert not stop([{}, {"train_loss": 1.0}, {"train_loss": 1.1}], patient(2, "train_loss"))
    assert stop([{}, {"train_loss": 1.0}, {"train_loss": 1.1}, {"train_loss": 1.1}], patient(2, "train_loss"))


def test_patience_0_and_retrainings_never_stop() -> None:
    worse = rows([0.1, 0.2, 0.3, 0.4])
    assert not stop(worse, patient(0))
    assert not stop(worse, patient(1, kind=Kind.RETRAINING))
