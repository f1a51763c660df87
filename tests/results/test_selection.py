"""Ranking, ties and the length of a retraining, against closed forms, scipy and plain loops."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nnscan.results import selection


@pytest.mark.parametrize("degrees", [*range(1, 41), 99, 100, 999, 5000])
@pytest.mark.parametrize("probability", [0.05, 0.5, 0.9, 0.95, 0.975, 0.999])
def test_t_quantile_is_that_of_scipy(degrees, probability):
    expected = stats.t.ppf(probability, degrees)
    assert selection.t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("n", "folds", "factor"), [(3, 3, 2.67), (5, 5, 1.43)])
def test_tie_factor_is_the_one_of_the_design(n, folds, factor):
    ratio = selection.validation_ratio({"folds": folds, "stratified": True})
    assert selection.tie_factor(n, ratio) == pytest.approx(factor, abs=0.005)


@pytest.mark.parametrize(
    ("validation", "ratio"),
    [({"folds": 5}, 1 / 4), ({"folds": 2}, 1.0), ({"holdout": 0.1}, 1 / 9), ({"holdout": 0.2}, 1 / 4)],
)
def test_validation_ratio_is_that_of_the_parts(validation, ratio):
    assert selection.validation_ratio(validation) == pytest.approx(ratio)


def corrected_t_test(winner, rival, ratio):
    """p value of "the winner is better", by the paper's statistic and scipy's distribution."""
    d = np.asarray(winner) - np.asarray(rival)
    n = len(d)
    statistic = d.mean() / math.sqrt((1 / n + ratio) * d.var(ddof=1))
    return stats.t.sf(statistic, n - 1)


@given(
    scores=st.lists(st.lists(st.floats(0.1, 1), min_size=5, max_size=5), min_size=2, max_size=6),
    smallest=st.booleans(),
)
def test_a_rival_is_tied_where_the_corrected_test_does_not_reject_it(scores, smallest):
    matrix = np.array(scores)
    sign = -1 if smallest else 1
    winner = int(np.argmax(sign * matrix.mean(axis=1)))
    tied = selection.ties(matrix, winner, validation_ratio=0.25, smallest=smallest)
    assert tied[winner]
    for row, flag in zip(matrix, tied, strict=True):
        d = sign * (matrix[winner] - row)
        if d.std(ddof=1) < 1e-9:
            continue  # a constant difference is the next test's
        p = corrected_t_test(sign * matrix[winner], sign * row, 0.25)
        assert abs(p - 0.05) < 1e-9 or flag == (p >= 0.05)


def test_a_constant_lag_is_no_tie_and_equal_scores_are_one():
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, 0.7], [0.89, 0.79, 0.69]])
    assert selection.ties(scores, 0, validation_ratio=0.5, smallest=False).tolist() == [True, True, False]


def test_a_single_score_ties_with_nothing():
    scores = np.array([[0.9], [0.9], [0.8]])
    assert selection.ties(scores, 1, validation_ratio=0.25, smallest=False).tolist() == [False, True, False]


def test_rank_takes_the_best_mean_then_fewer_parameters_then_the_smaller_key():
    means = np.array([0.5, 0.9, 0.9, 0.9, 0.7])
    parameters = np.array([1, 20, 10, 10, 5])
    keys = pa.array(["a", "b", "d", "c", "e"])
    assert selection.rank(means, parameters, keys, smallest=False).tolist() == [3, 2, 1, 4, 0]
    assert selection.rank(means, parameters, keys, smallest=True).tolist() == [0, 4, 3, 2, 1]


def test_means_that_differ_by_rounding_alone_are_equal():
    means = np.array([(0.1 + 0.2) / 2, 0.3 / 2])
    assert means[0] != means[1]
    order = selection.rank(means, np.array([20, 10]), pa.array(["a", "b"]), smallest=False)
    assert order.tolist() == [1, 0]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.1, 0.2, 0.3, -1e-9, 0.0, 1e12]), st.integers(1, 3), st.text("abc", min_size=1)),
        min_size=1,
        max_size=12,
        unique_by=lambda row: row[2],
    ),
    st.booleans(),
)
def test_rank_is_a_plain_sort(rows, smallest):
    means, parameters, keys = (list(column) for column in zip(*rows, strict=True))
    order = selection.rank(np.array(means), np.array(parameters), pa.array(keys), smallest=smallest)
    sign = 1 if smallest else -1
    assert [rows[index] for index in order] == sorted(rows, key=lambda row: (sign * row[0], row[1], row[2]))


def test_significant_keeps_digits_of_any_size():
    values = np.array([0.0, 123456.7891234567, -1.23456789012345e-200, 1e300])
    expected = [float(f"{value:.11e}") for value in values]
    assert selection.significant(values) == pytest.approx(expected, rel=1e-15)


def test_cheapest_is_the_tied_one_with_fewest_parameters_the_better_of_equals():
    tied = np.array([True, True, False, True])
    order = np.array([3, 1, 0, 2])
    assert selection.cheapest(tied, order, np.array([5, 5, 1, 9])) == 1
    assert selection.cheapest(tied, order, np.array([4, 5, 1, 9])) == 0


def plain_retraining_epochs(curves, smallest):
    """Epoch of the best mean by loops over lists."""
    longest = max(map(len, curves))
    carried = [curve + [curve[-1]] * (longest - len(curve)) for curve in curves]
    means = [sum(values) / len(values) for values in zip(*carried, strict=True)]
    best = (min if smallest else max)(means)
    return max(1, next(epoch for epoch, mean in enumerate(means) if math.isclose(mean, best, rel_tol=1e-13)))


@given(st.lists(st.lists(st.integers(0, 4).map(float), min_size=2, max_size=7), min_size=1, max_size=4), st.booleans())
def test_retraining_takes_the_first_best_epoch_of_the_mean_curve(curves, smallest):
    found = selection.retraining_epochs([np.array(curve) for curve in curves], smallest=smallest)
    assert found.epochs == plain_retraining_epochs(curves, smallest)


def test_retraining_carries_a_stopped_curve_on():
    # Cut to the shortest curve the best mean is at epoch 1; carried on it is at epoch 3.
    curves = [np.array([0.1, 0.8]), np.array([0.1, 0.5, 0.6, 0.9, 0.7])]
    found = selection.retraining_epochs(curves, smallest=False)
    assert found.epochs == 3
    assert found.mean == pytest.approx(0.85)
    assert found.std == pytest.approx(np.std([0.8, 0.9], ddof=1))


def test_retraining_lasts_one_epoch_where_training_only_harms():
    found = selection.retraining_epochs([np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.7, 0.6])], smallest=True)
    assert (found.epochs, found.mean) == (1, pytest.approx(0.6))


def test_retraining_of_a_network_that_was_not_trained_takes_no_epoch():
    found = selection.retraining_epochs([np.array([0.7]), np.array([0.8])], smallest=False, least=0)
    assert (found.epochs, found.mean) == (0, pytest.approx(0.75))


def test_retraining_ignores_an_epoch_that_a_curve_lacks_at_its_start():
    found = selection.retraining_epochs([np.array([math.nan, 0.5, 0.4]), np.array([9.0, 0.5, 0.4])], smallest=False)
    assert found.epochs == 1
    assert math.isnan(selection.retraining_epochs([np.array([math.nan, 0.5])], smallest=False).std)


@pytest.mark.parametrize("curves", [[], [np.array([math.nan])], [np.array([1.0]), np.array([math.nan])]])
def test_retraining_without_a_common_epoch_is_an_error(curves):
    with pytest.raises(ValueError, match="no epoch"):
        selection.retraining_epochs(curves, smallest=False)


def test_selection_imports_neither_scipy_nor_torch():
    code = "import sys, nnscan.results.selection; print(sorted({'scipy', 'torch', 'ray', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_pairing_matters():
    """The same spread around the mean decides differently when folds go up and down together."""
    winner = np.array([0.90, 0.80, 0.95, 0.85, 0.99])
    together = winner - np.array([0.010, 0.011, 0.012, 0.009, 0.010])
    for permutation in itertools.islice(itertools.permutations(together), 1, 120, 40):
        tied = selection.ties(np.array([winner, together, permutation]), 0, validation_ratio=0.25, smallest=False)
        assert tied.tolist()[:2] == [True, False]
        if np.std(winner - np.array(permutation), ddof=1) > 0.03:
            assert tied[2]
