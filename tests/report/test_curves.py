from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.report.curves import band, mean_curves


def tables(curves: dict[tuple[str, str], list[float | None]], shuffled: int = 0) -> tuple[pa.Table, pa.Table]:
    """The trials (key, configuration) and the epochs of curves by (configuration, trial)."""
    trials = pa.table(
        {"key": [trial for _, trial in curves], "configuration": [configuration for configuration, _ in curves]},
        schema=pa.schema({"key": pa.string(), "configuration": pa.string()}),
    )
    rows = [(trial, epoch, value) for (_, trial), curve in curves.items() for epoch, value in enumerate(curve)]
    np.random.default_rng(shuffled).shuffle(rows)
    epochs = pa.table(
        {
            "trial": pa.array([row[0] for row in rows], pa.string()),
            "epoch": pa.array([int(row[1]) for row in rows], pa.int32()),
            "m": pa.array([None if row[2] is None else float(row[2]) for row in rows], pa.float64()),
        }
    )
    return trials, epochs


def test_a_trial_that_stopped_early_is_carried_on_from_its_last_value() -> None:
    found = mean_curves(*tables({("a", "a0"): [0.0, 1.0, 2.0], ("a", "a1"): [2.0, 4.0], ("b", "b0"): [5.0]}), "m")
    assert found.configurations == ("a", "b")
    np.testing.assert_array_equal(found.values, [[1.0, 2.5, 3.0], [5.0, math.nan, math.nan]])


def test_values_begin_where_a_trial_has_its_first() -> None:
    found = mean_curves(*tables({("a", "a0"): [None, 1.0, None, 3.0]}), "m")
    np.testing.assert_array_equal(found.values, [[math.nan, 1.0, 1.0, 3.0]])


def test_rows_of_other_trials_are_ignored() -> None:
    trials, epochs = tables({("a", "a0"): [1.0, 2.0], ("b", "b0"): [7.0] * 9})
    found = mean_curves(trials.slice(0, 1), epochs, "m")
    np.testing.assert_array_equal(found.values, [[1.0, 2.0]])


def test_trials_without_epochs_have_no_curve() -> None:
    trials, epochs = tables({("a", "a0"): [], ("b", "b0"): [1.0]})
    assert mean_curves(trials, epochs, "m").configurations == ("b",)
    assert mean_curves(trials, epochs.slice(0, 0), "m").values.shape == (0, 0)


VALUES = st.lists(st.none() | st.floats(-9, 9), min_size=1, max_size=6)


@given(st.dictionaries(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), VALUES, min_size=1), st.integers(0, 9))
def test_means_equal_a_plain_loop(drawn: dict[tuple[str, int], list[float | None]], shuffled: int) -> None:
    curves = {(name, f"{name}{number}"): values for (name, number), values in drawn.items()}
    found = mean_curves(*tables(curves, shuffled), "m")
    for configuration, row in zip(found.configurations, found.values, strict=True):
        own = [values for (name, _), values in curves.items() if name == configuration]
        longest = max(max((i + 1 for i, value in enumerate(values) if value is not None), default=0) for values in own)
        for epoch, mean in enumerate(row):
            last = [next((v for v in values[epoch::-1] if v is not None), None) for values in map(padded, own)]
            known = [value for value in last if value is not None]
            expected = sum(known) / len(known) if known and epoch < longest else math.nan
            assert mean == pytest.approx(expected, nan_ok=True, abs=1e-12)


def padded(values: list[float | None]) -> list[float | None]:
    return values + [None] * (6 - len(values))


def test_a_band_has_mean_and_sample_deviation() -> None:
    found = band([np.array([1.0, 2.0]), np.array([3.0])], "m")
    np.testing.assert_allclose(found.mean, [2.0, 2.5])
    np.testing.assert_allclose(found.std, [math.sqrt(2), math.sqrt(0.5)])
    assert np.isnan(band([np.array([1.0])], "m").std).all()
