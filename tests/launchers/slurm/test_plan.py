"""How trials become arrays: arithmetic, whatever the numbers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.launchers.slurm.plan import ArrayPlan, Space, cut, plan


def space(**different: int | None) -> Space:
    return Space(**{"at_once": 16, "minutes": 60, "array_size": 1001, **different})


def sizes(plans: list[ArrayPlan]) -> list[int]:
    return [len(one.bundles) for one in plans]


def bundles(plans: list[ArrayPlan]) -> list[tuple[int, int]]:
    return [bundle for one in plans for bundle in one.bundles]


@given(st.integers(1, 5000), st.data())
def test_ranges_are_even_and_whole(length: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, length))
    ranges = cut(length, count)
    assert [place for start, stop in ranges for place in range(start, stop)] == list(range(length))
    lengths = {stop - start for start, stop in ranges}
    assert max(lengths) - min(lengths) <= 1


@given(
    trials=st.integers(1, 3000),
    seconds=st.none() | st.floats(0, 1e7),
    at_once=st.integers(1, 300),
    minutes=st.integers(1, 3000),
    array_size=st.integers(1, 400),
    jobs=st.none() | st.integers(1, 2000),
    trials_per_bundle=st.integers(0, 50),
)
def test_a_plan_keeps_to_every_limit(seconds: float | None, trials: int, **limits: int) -> None:
    given_ = Space(**limits)
    plans = plan(trials, seconds, given_)
    assert [trial for start, stop in bundles(plans) for trial in range(start, stop)] == list(range(trials))
    assert max(sizes(plans)) <= given_.array_size
    assert min(sizes(plans)) >= 1
    assert given_.jobs is None or sum(sizes(plans)) <= given_.jobs
    assert sum(one.at_once for one in plans if one.after < 0) <= given_.at_once
    for place, one in enumerate(plans):
        assert one.after < place
        assert one.at_once >= 1
        if one.after >= 0:  # a chain goes on with no more tasks than the array before it left room for
            assert one.at_once <= plans[one.after].at_once


@pytest.mark.parametrize(
    ("trials", "seconds", "different", "count"),
    [
        (5, None, {}, 5),  # never more than trials
        (1000, None, {}, 16),  # as many as run at once
        (1000, 1000.0, {}, 16),
        (1000, 16 * 0.8 * 3600, {}, 48),  # long: three times as many, for balance
        (1000, 16 * 0.8 * 3600 * 5, {}, 80),  # 0.8 of the walltime each: five rounds
        (1000, 16 * 0.8 * 3600 * 4 + 1, {}, 80),  # and never a round with one bundle in it
        (1000, None, {"trials_per_bundle": 30}, 34),
        (1000, None, {"jobs": 5}, 5),
        (1000, None, {"jobs": 0}, 1),  # refused before by name; a plan of nothing is none
        (1000, None, {"at_once": 1}, 1),
    ],
)
def test_the_number_of_bundles(trials: int, seconds: float | None, different: dict[str, int], count: int) -> None:
    assert sum(sizes(plan(trials, seconds, space(**different)))) == count


def test_an_array_is_split_at_its_largest_size_and_the_parts_share_the_limit() -> None:
    plans = plan(10_000, None, space(trials_per_bundle=1))
    assert sizes(plans) == [1000] * 10
    assert [one.at_once for one in plans] == [2, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    assert [one.after for one in plans] == [-1] * 10


def test_more_arrays_than_run_at_once_follow_each_other() -> None:
    plans = plan(6000, None, space(trials_per_bundle=1, at_once=4))
    assert sizes(plans) == [750] * 8
    assert [one.at_once for one in plans] == [1] * 8
    assert [one.after for one in plans] == [-1, -1, -1, -1, 0, 1, 2, 3]


def test_1001_tasks_are_one_array_where_MaxArraySize_is_1001() -> None:  # noqa: N802
    assert sizes(plan(1001, None, space(trials_per_bundle=1))) == [1001]
    assert sizes(plan(1002, None, space(trials_per_bundle=1))) == [501, 501]


def test_a_cluster_without_arrays_gets_single_jobs() -> None:
    assert sizes(plan(5, None, space(array_size=1))) == [1] * 5


def test_100_000_trials_are_planned_in_no_time() -> None:
    started = time.perf_counter()
    plans = plan(100_000, 1e6, space(at_once=256, trials_per_bundle=1))
    assert sum(sizes(plans)) == 100_000
    assert time.perf_counter() - started < 1
