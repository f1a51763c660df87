from __future__ import annotations

import math
import statistics
from itertools import product

import pytest
from scan_by_hand import all_scored, configuration, plan_of, trials_of

from nnscan.report.effects import AxisEffect, Series, axis_effects, score_range, switches, weight_effects
from nnscan.results.leaderboard import FamilySummary
from nnscan.results.summary import summarize


def families(points: dict[str, list[dict]], score) -> tuple[FamilySummary, ...]:
    """Families of configurations with `score(index, fold)`, indices counted through all of them."""
    flat = [point for members in points.values() for point in members]
    rows = all_scored(score, flat)
    return summarize(plan_of(points), trials_of(rows, flat), metric="val_accuracy").families


def with_model(point: dict, **options) -> dict:
    return {**point, "model": {**point["model"], **options}}


def with_task(point: dict, **options) -> dict:
    return {**point, "task": options}


def test_families_stand_beside_each_other_on_the_axes_they_share() -> None:
    first = [configuration(width, rate) for width in (32, 64) for rate in (0.1, 0.01)]
    second = [configuration(128, rate, "sgd") for rate in (0.1, 0.001)]
    found = families({"A": first, "B": second}, lambda index, fold: index / 10)
    by_path = {effect.path: effect for effect in axis_effects(found)}
    assert set(by_path) == {"model.width", "optimizer.learning_rate"}
    assert by_path["model.width"].values == (32, 64)
    assert [one.family for one in by_path["model.width"].series] == ["A"]
    rates = by_path["optimizer.learning_rate"]
    assert rates.values == (0.001, 0.01, 0.1)
    a, b = rates.series
    assert (a.values, a.counts, a.place) == ((0.01, 0.1), (2, 2), 0)
    assert a.means == pytest.approx(((0.1 + 0.3) / 2, (0.0 + 0.2) / 2))
    assert a.stds[0] == pytest.approx(statistics.stdev([0.1, 0.3]))
    assert (b.place, b.counts) == (1, (1, 1))
    assert all(math.isnan(std) for std in b.stds)


@pytest.mark.parametrize(
    ("rates", "logarithmic", "in_place"),
    [((0.1, 0.01), True, True), ((0.1, 0.05, 0.001), True, True)],
    ids=["two rates", "three rates"],
)
def test_rates_stand_on_a_logarithmic_axis(rates: tuple[float, ...], logarithmic: bool, in_place: bool) -> None:
    (effect,) = axis_effects(families({"A": [configuration(rate=rate) for rate in rates]}, lambda index, fold: index))
    assert (effect.logarithmic, effect.in_place) == (logarithmic, in_place)


def test_other_values_stand_side_by_side() -> None:
    (widths,) = axis_effects(families({"A": [configuration(w) for w in (8, 16, 64)]}, lambda index, fold: index))
    assert (widths.numeric, widths.logarithmic, widths.in_place) == (True, False, False)
    points = [with_model(configuration(), channels=channels) for channels in ([8], [8, 16])]
    (lists,) = axis_effects(families({"A": points}, lambda index, fold: index))
    assert (lists.values, lists.numeric, lists.in_place) == (((8,), (8, 16)), False, False)


def test_switches_are_combined() -> None:
    points = [with_model(configuration(), norm=a, skip=b) for a, b in product((True, False), repeat=2)]
    (family,) = families({"A": points}, lambda index, fold: index)
    assert switches(family) == ("model.norm", "model.skip")
    together = axis_effects([family])[-1]
    assert together.path == "model.norm, model.skip"
    means = dict(zip(together.series[0].values, together.series[0].means, strict=True))
    assert means == {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}


def test_one_scale_holds_every_mean_with_its_spread() -> None:
    effects = axis_effects(families({"A": [configuration(w, r) for w in (8, 16) for r in (0.1, 0.01)]}, lambda i, f: i))
    low, high = score_range(effects)
    for effect in effects:
        for mean, std in zip(effect.series[0].means, effect.series[0].stds, strict=True):
            assert low < mean - std < mean + std < high


def test_a_weight_is_followed_from_the_winner() -> None:
    weights = (1.0, 0.1, 0.0)
    points = [with_task(configuration(width), weight=weight) for width in (8, 16) for weight in weights]
    (family,) = families({"A": points}, lambda index, fold: index + fold / 10)  # the winner is 16 wide, weight 0
    (effect,) = weight_effects(family)
    assert effect.paths == ("task.weight",)
    assert effect.values == ((0.0,), (0.1,), (1.0,))
    assert effect.means == pytest.approx((5.1, 4.1, 3.1))
    assert effect.stds == pytest.approx([0.1] * 3)
    assert effect.n == 3


def test_weights_that_vary_together_are_followed_together() -> None:
    points = [with_task(configuration(), one=one, two=1 - one) for one in (0.0, 0.5, 1.0)]
    (effect,) = weight_effects(families({"A": points}, lambda index, fold: index)[0])
    assert effect.paths == ("task.one", "task.two")
    assert effect.values == ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0))
    assert effect.means == (0.0, 1.0, 2.0)


def test_without_weights_there_is_no_effect_of_any() -> None:
    points = [with_task(configuration(), loss=loss) for loss in ("mse", "cross_entropy")]
    assert weight_effects(families({"A": points}, lambda index, fold: index)[0]) == []


def test_a_family_without_a_score_has_no_switches() -> None:
    (family,) = families({"A": [configuration(width) for width in (8, 16)]}, lambda index, fold: None)
    assert family.leaders == ()
    assert switches(family) == ()
    assert axis_effects([family]) == []


@pytest.mark.parametrize(
    ("means", "limits"),
    [((0.2, math.inf, 0.4), (0.19, 0.41)), ((math.inf,), (-0.01, 0.01)), ((0.5,), (0.49, 0.51))],
    ids=["one is infinite", "none is finite", "one"],
)
def test_limits_are_finite(means: tuple[float, ...], limits: tuple[float, float]) -> None:
    nothing = tuple(math.nan for _ in means)
    counts = tuple(1 for _ in means)
    values = tuple(range(len(means)))
    series = Series(family="A", place=0, values=values, means=means, stds=nothing, counts=counts)
    assert score_range([AxisEffect(path="p", values=values, series=(series,))]) == pytest.approx(limits)
