from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.errors import DataError, ScanError
from nnscan.reconcile import COLUMNS, one_trial, refuse_changed, still_to_do

SCHEMA = pa.schema([("trial", pa.string()), ("status", pa.string()), ("failure", pa.string()), ("attempt", pa.int32())])
KEYS = pa.array(["aa11", "aa22", "bb33"])


def trials(*rows: tuple[str, str, str, int]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema=SCHEMA)


CASES = {
    # what the store has of the trial, wanted, wanted with --retry-failed, attempts that count without it
    "nothing": ((), True, True, 0),
    "completed": (("completed", "", 1), False, False, 0),
    "diverged": (("diverged", "", 1), False, False, 0),
    "failed": (("failed", "config", 1), False, True, 0),
    "out of memory twice": (("failed", "out of memory", 2), False, True, 0),
    "lost once": (("failed", "lost", 1), True, True, 1),
    "lost twice": (("failed", "lost", 2), True, True, 2),
    "lost three times": (("failed", "lost", 3), False, True, 0),
}


@pytest.mark.parametrize(("row", "wanted", "retried", "attempts"), CASES.values(), ids=CASES)
def test_what_is_run_again(row: tuple[Any, ...], wanted: bool, retried: bool, attempts: int) -> None:
    table = trials(*([("bb33", *row)] if row else []))
    to_do = still_to_do(KEYS, table, retry_failed=False)
    assert to_do.wanted.tolist() == [True, True, wanted]
    assert dict(to_do.attempts) == ({"bb33": attempts} if attempts else {})
    again = still_to_do(KEYS, table, retry_failed=True)
    assert again.wanted.tolist() == [True, True, retried]
    assert dict(again.attempts) == {}


def test_trials_that_left_the_grid_do_not_count() -> None:
    to_do = still_to_do(KEYS, trials(("cc44", "completed", "", 1), ("dd55", "failed", "config", 1)), retry_failed=True)
    assert (to_do.done, to_do.failed, to_do.wanted.all()) == (0, 0, True)


ROWS = st.dictionaries(
    st.sampled_from([f"{number:04}" for number in range(20)]),
    st.sampled_from([row for row, *_ in CASES.values() if row]),
)


@given(ROWS, st.booleans(), st.integers(0, 25))
def test_done_failed_and_wanted_are_all_in_the_order_of_the_plan(
    rows: dict[str, Any], retry_failed: bool, limit: int
) -> None:
    keys = pa.array([f"{number:04}" for number in range(15)])
    to_do = still_to_do(keys, trials(*((key, *row) for key, row in rows.items())), retry_failed=retry_failed)
    wanted = to_do.first(0).to_pylist()
    assert len(wanted) + to_do.done + to_do.failed == len(keys)
    assert wanted == sorted(wanted)
    assert to_do.first(limit).to_pylist() == (wanted[:limit] if limit else wanted)
    assert set(to_do.attempts) <= set(wanted)


def test_one_trial_is_wanted_whatever_became_of_it() -> None:
    assert one_trial(KEYS, "b").first(0).to_pylist() == ["bb33"]
    assert one_trial(KEYS, "aa22").first(0).to_pylist() == ["aa22"]


@pytest.mark.parametrize(("prefix", "words"), [("aa", "2 trials of the scan begin so"), ("cc", "no trial")])
def test_a_prefix_that_is_not_of_one_trial_is_refused(prefix: str, words: str) -> None:
    with pytest.raises(ScanError, match=words):
        one_trial(KEYS, prefix)


def stored(data: list[str | None], names: list[str] | None = None) -> pa.Table:
    columns = {"data_fingerprint": data, "code_fingerprint": ["c"] * len(data), "numerics": [1] * len(data)}
    return pa.table({**columns, **({"data.name": names} if names else {})})


NOW = {"data_fingerprint": {"new"}, "code_fingerprint": {"c"}, "numerics": {"1"}}


def test_results_of_other_data_are_refused_with_both_fingerprints_and_the_ways_out() -> None:
    with pytest.raises(DataError) as caught:
        refuse_changed(stored(["old", "new", None, ""]), NOW, ())
    for words in ("data fingerprint", "old", "new", "--scan-dir", "--accept-changed"):
        assert words in str(caught.value)


def test_other_numerics_are_refused() -> None:
    with pytest.raises(DataError, match="numerics"):
        refuse_changed(stored(["new"]), {**NOW, "numerics": {"2"}}, ())


def test_what_was_accepted_passes() -> None:
    refuse_changed(stored(["old", "new"]), NOW, ["old"])


def test_results_without_fingerprints_pass() -> None:
    refuse_changed(stored([None, ""]), NOW, ())  # trials that failed before they saw their data


def test_data_that_a_users_function_returned_are_told_by_its_source() -> None:
    table = stored(["drawn", "new"], ["own.data:draw", "digits"])
    refuse_changed(table, NOW, ())
    with pytest.raises(DataError, match="code fingerprint"):
        refuse_changed(table, {**NOW, "code_fingerprint": {"other"}}, ())


@pytest.mark.parametrize("retry_failed", [False, True])
def test_what_jobs_of_earlier_launches_are_to_train_is_left_alone(retry_failed: bool) -> None:
    table = trials(("aa11", "failed", "lost", 1), ("bb33", "completed", "", 1))
    held = pa.array(["aa11", "bb33", "cc44"])
    to_do = still_to_do(KEYS, table, retry_failed=retry_failed, elsewhere=held)
    assert (to_do.wanted.tolist(), to_do.elsewhere) == ([False, True, False], 1)
    assert (to_do.done, to_do.failed, dict(to_do.attempts)) == (1, 0, {})
