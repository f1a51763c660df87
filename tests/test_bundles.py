import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.bundles import Bundle, Bundles, Dealer


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


def simulated(bundles: Bundles, seconds: list[float], workers: int) -> float:
    """Return when the last of `workers` ends that ask for bundles of trials that take `seconds` each."""
    ends = [0.0] * workers
    for bundle in bundles:
        free = min(range(workers), key=ends.__getitem__)
        ends[free] += sum(seconds[bundle.start : bundle.stop])
    return max(ends)


def dealt(bundles: Bundles, seconds: list[float], workers: int) -> tuple[float, int]:
    """Return when the last of `workers` ends that ask a dealer for bundles, and how many bundles there were."""
    now, ends, running = 0.0, [0.0] * workers, dict[int, Bundle]()
    dealer = Dealer(bundles, clock=lambda: now)
    count = 0
    while True:
        free = min(range(workers), key=ends.__getitem__)
        now = ends[free]
        if free in running:
            dealer.ended(running.pop(free))
        bundle = dealer.deal()
        if bundle is None:
            ends[free] = math.inf
            if not running:
                return now, count
            continue
        running[free], count = bundle, count + 1
        ends[free] = now + sum(seconds[bundle.start : bundle.stop])


def test_short_trials_come_in_bundles_that_are_worth_their_files() -> None:
    took, count = dealt(Bundles("launch", 1000, 2), [0.01] * 1000, 2)
    assert count < len(sizes(1000, 2)) * 0.6
    assert took <= 5 * 1.05


@given(st.lists(st.sampled_from([0.001, 0.1, 5.0]), min_size=1, max_size=60), st.integers(2, 8))
def test_no_bundle_is_more_than_a_fair_share_of_what_is_left(seconds: list[float], workers: int) -> None:
    bundles = Bundles("launch", len(seconds), workers)
    dealer, left = Dealer(bundles, clock=iter(range(10**6)).__next__), len(seconds)
    while (bundle := dealer.deal()) is not None:
        assert bundle.stop - bundle.start <= math.ceil(left / workers)
        left -= bundle.stop - bundle.start
        dealer.ended(bundle)
    assert left == 0


@pytest.mark.parametrize(
    ("trials", "workers", "expected"),
    [(60, 2, [12, 8, 8, 8, 4, 4, 4, 4, 4, 2, 1, 1]), (5, 2, [3, 1, 1]), (7, 1, [7])],
)
def test_trials_that_are_trained_together_come_together(trials: int, workers: int, expected: list[int]) -> None:
    bundles = Bundles("launch", trials, workers, together=4)
    assert [bundle.stop - bundle.start for bundle in bundles] == expected


@pytest.mark.parametrize(
    ("fast", "slow", "seconds"),
    [(64, 64, (0.005, 60.0)), (6, 94, (0.005, 60.0)), (60, 940, (0.0005, 10.0))],
    ids=["a fast family first", "the first fail", "the first are cancelled"],
)
def test_slow_trials_behind_fast_ones_do_not_all_go_to_one_worker(
    fast: int, slow: int, seconds: tuple[float, float]
) -> None:
    took = [seconds[0]] * fast + [seconds[1]] * slow
    end, _ = dealt(Bundles("launch", len(took), 8), took, 8)
    assert end <= sum(took) / 8 + 2 * seconds[1]


COSTS = st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0.01, 1.0, 7.0, 300.0])), min_size=1, max_size=6)


@given(COSTS, st.integers(2, 16))
def test_where_costs_are_known_and_the_longest_come_first_workers_end_together(
    stretches: list[tuple[int, float]], workers: int
) -> None:
    stretches.sort(key=lambda stretch: -stretch[1])
    seconds = [each for count, each in stretches for _ in range(count)]
    stops = [sum(count for count, _ in stretches[: place + 1]) for place in range(len(stretches))]
    costs = [(stop, each) for stop, (_, each) in zip(stops, stretches, strict=True)]
    bundles = Bundles("launch", len(seconds), workers, costs)
    edges = [0, *(bundle.stop for bundle in bundles)]
    assert [bundle.start for bundle in bundles] == edges[:-1]
    assert edges[-1] == len(seconds)
    # No worker is left with more than a bundle of a third of a fair share, or one trial, when the others end.
    bound = sum(seconds) / workers + max(max(seconds), sum(seconds) / (3 * workers) + max(seconds))
    assert simulated(bundles, seconds, workers) <= bound + 1e-6


def test_a_few_long_trials_do_not_all_go_to_one_worker() -> None:
    seconds = [100.0] * 10 + [1.0] * 50  # 1,050 s: 525 for each of two workers
    known = Bundles("launch", 60, 2, [(10, 100.0), (60, 1.0)])
    assert [bundle.stop - bundle.start for bundle in known][:3] == [2, 2, 2]
    assert simulated(known, seconds, 2) <= 550
    assert simulated(Bundles("launch", 60, 2), seconds, 2) == 1000, "a sixth of all is ten trials"


@given(st.integers(1, 10_000), st.integers(1, 50), st.sampled_from([0.1, 3.0, 1e4]))
def test_equal_costs_change_nothing(trials: int, workers: int, each: float) -> None:
    assert [one.stop for one in Bundles("l", trials, workers, [(trials, each)])] == [
        one.stop for one in Bundles("l", trials, workers)
    ]
