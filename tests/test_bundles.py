import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.bundles import Bundle, Bundles


def sizes(trials: int, workers: int) -> list[int]:
    return [bundle.stop - bundle.start for bundle in Bundles("launch", trials, workers)]


@given(st.integers(0, 100_000), st.integers(1, 200))
def test_bundles_are_all_trials_in_order_each_once(trials: int, workers: int) -> None:
    bundles = list(Bundles("launch", trials, workers))
    edges = [0, *(bundle.stop for bundle in bundles)]
    assert [bundle.start for bundle in bundles] == edges[:-1]
    assert edges[-1] == trials
    assert all(bundle.stop > bundle.start for bundle in bundles)


@given(st.integers(1, 100_000), st.integers(2, 200))
def test_each_is_a_third_of_the_fair_share_of_what_is_left(trials: int, workers: int) -> None:
    cut = sizes(trials, workers)
    assert cut == sorted(cut, reverse=True)
    assert cut[0] == math.ceil(trials / (3 * workers))
    assert cut[-1] == 1


@given(st.integers(2, 50))
def test_their_number_grows_as_the_logarithm_of_the_trials(workers: int) -> None:
    # What is left shrinks by 1 - 1/(3 w) a bundle, down to 3 w trials, which then go one by one.
    shrinking = 3 * workers * math.log(100_000 / (3 * workers))
    assert len(sizes(100_000, workers)) <= shrinking + 3 * workers + 1


@pytest.mark.parametrize("trials", [1, 2, 1000])
def test_one_worker_has_one_bundle(trials: int) -> None:
    assert sizes(trials, 1) == [trials]


def test_no_trials_are_no_bundle() -> None:
    assert sizes(0, 4) == []


def test_a_thousand_trials_on_two_workers() -> None:
    assert sizes(1000, 2)[:4] == [167, 139, 116, 97]  # ceil(left / 6)


def test_a_bundle_is_named_by_launch_and_first_trial_and_survives_json() -> None:
    bundle = Bundle("20260101-000000-abcdef", 3, 7)
    assert bundle.name == "20260101-000000-abcdef-3"
    assert Bundle(**bundle.plain()) == bundle
