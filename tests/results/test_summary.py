"""What is read off the tables, against plain loops over dictionaries."""

import json
import math
import statistics
from collections import Counter
from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scan_by_hand import (
    GRID,
    RATES,
    WIDTHS,
    all_scored,
    configuration,
    key_of,
    plan_of,
    row_of,
    trials_of,
    write_bundle,
    write_scan,
)

from nnscan.errors import ScanError
from nnscan.identity import configuration_key
from nnscan.results import store, summary
from nnscan.results.compaction import compact
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause
from nnscan.results.scores import codes_of
from nnscan.results.selection import ties
from nnscan.trial import Kind


def summarize(rows, plan=None, *, points=GRID, metric="val_accuracy", **options):
    plan = plan_of(plan or {"MLP": points})
    return summary.summarize(plan, trials_of(rows, points), metric=metric, **options)


def test_a_leaderboard_has_mean_spread_cost_and_time():
    rows = all_scored(lambda index, fold: 0.5 + 0.1 * index + 0.01 * fold)
    (family,) = summarize(rows).families
    winner = family.winner
    assert winner.configuration == configuration_key(GRID[-1])
    assert (winner.rank, winner.winner, winner.tied, winner.n) == (1, True, True, 3)
    assert winner.mean == pytest.approx(1.01)
    assert winner.std == pytest.approx(statistics.stdev([1.0, 1.01, 1.02]))
    assert (winner.best_epoch, winner.seconds, winner.parameters, winner.cost) == (3.0, 2.0, 1280, 1.0)
    assert winner.hyperparameters == {"model.width": 128, "optimizer.learning_rate": 0.001}
    assert [leader.rank for leader in family.leaders] == [1, 2, 3, 4, 5, 6]
    assert family.leaders[-1].cost == 0.25
    assert (family.configurations, family.complete, family.begun, family.untouched) == (6, 6, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["val_accuracy", "val_loss"]), st.integers(1, 3), st.integers(1, 2))
def test_summary_equals_plain_loops(seed, metric, folds, replicates):
    """Random scores and states, rows shuffled, points that are not in the plan: all compared with dictionaries."""
    random = np.random.default_rng(seed)
    stranger = configuration(width=999)
    rows = []
    for point in [*GRID, stranger]:
        for replicate in range(replicates):
            for fold in range(folds):
                state = random.choice(["completed", "completed", "completed", "failed", "diverged", "pending"])
                score = round(float(random.random()), 1) if state == "completed" else None
                row = row_of(point, fold, score, replicate=replicate, status=state, metric=metric)
                rows += [row] if state != "pending" else []
    random.shuffle(rows)
    families = {"small": GRID[:4], "large": GRID[2:]}
    found = summary.summarize(plan_of(families, folds, replicates), trials_of(rows, [*GRID, stranger]), metric=metric)

    by_key = {row["trial"]: row for row in rows}
    planned = {key_of(p, f, r) for p in GRID for f in range(folds) for r in range(replicates)}
    states = Counter(by_key[key]["status"] if key in by_key else "pending" for key in planned)
    for state in ("completed", "diverged", "failed", "pending"):
        assert getattr(found.counts, state) == states[state]
    assert found.counts.total == len(planned)
    assert [family.name for family in found.families] == list(families)
    for family, points in zip(found.families, families.values(), strict=True):
        _check_family(family, points, by_key, folds, replicates, metric)


def _check_family(family, points, by_key, folds, replicates, metric):
    sign = 1 if metric == "val_loss" else -1
    complete = {}
    for point in points:
        keys = [key_of(point, f, r) for r in range(replicates) for f in range(folds)]
        scores = [by_key[key]["score"] for key in keys if key in by_key and by_key[key]["status"] == "completed"]
        if len(scores) == len(keys):
            complete[configuration_key(point)] = (scores, 10 * point["model"]["width"])
    order = sorted(
        complete, key=lambda key: (sign * round(statistics.mean(complete[key][0]), 11), complete[key][1], key)
    )
    assert [leader.configuration for leader in family.leaders] == order
    for leader in family.leaders:
        scores = complete[leader.configuration][0]
        assert leader.mean == pytest.approx(statistics.mean(scores))
        assert leader.std == pytest.approx(statistics.stdev(scores) if len(scores) > 1 else math.nan, nan_ok=True)
    assert len(family.incomplete) == family.begun
    begun = {row["configuration"] for row in by_key.values()} & {configuration_key(point) for point in points}
    assert {one.configuration for one in family.incomplete} == begun - set(order)
    assert family.untouched == len(points) - len(begun)
    if order and len(complete[order[0]][0]) > 1:
        matrix = np.array([complete[key][0] for key in order])
        tied = ties(matrix, 0, validation_ratio=0.5, smallest=metric == "val_loss")
        assert [leader.tied for leader in family.leaders] == tied.tolist()
        assert family.tied == tied.sum() - 1


def test_one_trial_each_ties_with_nothing_and_has_no_factor():
    plan = plan_of({"MLP": GRID}, folds=1)
    rows = [row_of(point, score=0.9) for point in GRID]
    (family,) = summary.summarize(plan, trials_of(rows), metric="val_accuracy").families
    assert family.tie_factor is None
    assert [leader.tied for leader in family.leaders] == [True] + [False] * 5
    assert math.isnan(family.winner.std)
    assert family.winner.parameters == 320  # equal scores: the fewest parameters


def test_ties_take_the_ratio_of_the_validation_settings():
    points = [{**point, "validation": {"holdout": 0.5, "stratified": True}} for point in GRID[:2]]
    rows = all_scored(lambda index, fold: (0.9, 0.88 + 0.01 * fold)[index], points)
    (family,) = summarize(rows, points=points).families
    # t(0.95, 2) * sqrt(1/3 + 1) = 3.37; the lag is 0.01, its standard deviation 0.01.
    assert family.tie_factor == pytest.approx(2.92 * math.sqrt(4 / 3), abs=0.001)
    assert (family.tied, family.cheapest.configuration) == (1, family.winner.configuration)


def test_cheapest_is_the_tied_configuration_with_fewest_parameters():
    points = [configuration(32), configuration(64), configuration(128)]
    wide = (0.90, 0.95, 0.85), (0.94, 0.93, 0.84), (0.99, 0.89, 0.96)
    (family,) = summarize(all_scored(lambda index, fold: wide[index][fold], points), points=points).families
    assert family.winner.parameters == 1280
    assert (family.tied, family.cheapest.parameters, family.cheapest.cost) == (2, 320, 0.25)


def test_incomplete_configurations_say_why_and_cannot_win():
    rows = all_scored(lambda index, fold: 0.1 * index)
    best = configuration_key(GRID[-1])
    mine = [row for row in rows if row["configuration"] == best]
    mine[0].update(status="failed", failure="config", score=None, error="ValueError: no\nmore")
    mine[1].update(status="diverged", score=None, error="val_loss is nan at epoch 3")
    (family,) = summarize(rows).families
    (incomplete,) = family.incomplete
    assert family.winner.configuration == configuration_key(GRID[-2])
    assert (incomplete.configuration, incomplete.reason) == (best, "1 failed, 1 diverged")
    assert (incomplete.scored, incomplete.n, incomplete.mean) == (1, 3, pytest.approx(0.5))


def test_a_completed_trial_without_a_score_keeps_its_configuration_from_winning():
    rows = all_scored(lambda index, fold: 0.1 * index)
    rows[-1]["score"] = math.nan
    (family,) = summarize(rows).families
    assert [one.reason for one in family.incomplete] == ["1 without a score"]


def test_running_trials_are_counted_until_they_end():
    rows = all_scored(lambda index, fold: 0.5)[:-3]
    running = [key_of(GRID[-1], 1), rows[0]["trial"]]
    found = summarize(rows, running=running)
    assert (found.counts.running, found.counts.pending, found.counts.completed) == (1, 2, 15)
    assert [one.reason for one in found.families[0].incomplete] == ["1 running, 2 pending"]


@pytest.mark.parametrize(("attempt", "state"), [(1, "pending"), (2, "pending"), (3, "failed")])
def test_a_lost_trial_is_pending_until_its_third_attempt(attempt, state):
    rows = [row_of(GRID[0], status="failed", failure="lost", attempt=attempt, score=None, error="worker died")]
    found = summarize(rows)
    assert getattr(found.counts, state) == (18 if state == "pending" else 1)
    assert len(found.troubles) == (state == "failed")


def test_troubles_are_grouped_by_cause_most_frequent_first():
    rows = all_scored(lambda index, fold: None)
    for index, row in enumerate(rows):
        row["status"] = "failed" if index else "diverged"
        row["failure"] = "config" if index else ""
        row["error"] = "nan at epoch 1" if not index else ("A: first" if index < 5 else "B: second")
    stranger = row_of(configuration(width=7), status="failed", error="not in the plan")
    found = summarize([*rows, stranger], points=GRID).troubles
    assert [(trouble.cause, trouble.count, trouble.status, trouble.failure) for trouble in found] == [
        ("B: second", 13, "failed", "config"),
        ("A: first", 4, "failed", "config"),
        ("nan at epoch 1", 1, "diverged", ""),
    ]
    assert found[1].trial == min(row["trial"] for row in rows[1:5])


def test_a_configuration_in_two_families_counts_once_and_stands_in_both():
    rows = all_scored(lambda index, fold: 0.1 * index)
    found = summarize(rows, {"all": GRID, "last": GRID[-1:]})
    assert (found.counts.total, found.counts.completed) == (18, 18)
    assert found.families[0].winner.configuration == found.families[1].winner.configuration
    assert found.families[1].axes == ()


def test_marginals_average_the_configurations_that_share_a_value():
    rows = all_scored(lambda index, fold: 0.1 * index)
    (family,) = summarize(rows).families
    widths, rates = family.marginals
    assert (widths.path, rates.path) == ("model.width", "optimizer.learning_rate")
    assert [(effect.value, effect.n) for effect in widths.effects] == [(32, 2), (64, 2), (128, 2)]
    assert [effect.mean for effect in widths.effects] == pytest.approx([0.05, 0.25, 0.45])
    assert [effect.std for effect in widths.effects] == pytest.approx([statistics.stdev([0, 0.1])] * 3)
    assert [effect.value for effect in rates.effects] == [0.001, 0.1]  # numbers ascend
    assert [effect.mean for effect in rates.effects] == pytest.approx([0.3, 0.2])


def test_an_option_that_only_some_have_is_an_axis_where_it_varies():
    points = [configuration(optimizer=name, rate=rate) for name in ("sgd", "adam") for rate in RATES]
    (family,) = summarize(all_scored(lambda index, fold: 0.1 * index, points), points=points).families
    assert family.axes == ("optimizer.learning_rate", "optimizer.name")  # momentum has one value, where it is
    assert [effect.value for effect in family.marginals[1].effects] == ["sgd", "adam"]  # as in the plan


def test_lists_and_booleans_are_axes_with_their_values():
    points = [configuration(width) for width in WIDTHS]
    for point, channels, skip in zip(points, ([8, 8], [16], [8, 8]), (True, False, False), strict=True):
        point["model"] = {**point["model"], "channels": channels, "skip": skip}
    (family,) = summarize(all_scored(lambda index, fold: 0.1 * index, points), points=points).families
    values = {marginal.path: [effect.value for effect in marginal.effects] for marginal in family.marginals}
    assert values == {"model.channels": [[8, 8], [16]], "model.skip": [False, True], "model.width": [32, 64, 128]}
    assert family.winner.hyperparameters == {"model.channels": [8, 8], "model.skip": False, "model.width": 128}


def test_by_groups_the_leaderboard_and_keeps_ranks():
    rows = all_scored(lambda index, fold: 0.1 * index)
    (family,) = summarize(rows, by="optimizer.learning_rate", top=2).families
    assert [(board.value, [leader.rank for leader in board.leaders]) for board in family.boards] == [
        (0.001, [1, 3]),
        (0.1, [2, 4]),
    ]
    assert family.marginals[0].path == "optimizer.learning_rate"
    assert [board.complete for board in family.boards] == [3, 3]


def test_by_shows_those_without_the_option_last():
    points = [configuration(optimizer="sgd"), configuration(optimizer="sgd"), configuration(optimizer="adam")]
    points[1]["optimizer"]["momentum"] = 0.5
    (family,) = summarize(all_scored(lambda i, f: 0.1 * i, points), points=points, by="optimizer.momentum").families
    assert [(board.value, board.complete) for board in family.boards] == [(0.5, 1), (0.9, 1), (None, 1)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"by": "model.widht"}, "--by: no axis 'model.widht'. Did you mean 'model.width'?"),
        ({"families": ["MPL"]}, "--family: no family 'MPL'. Did you mean 'MLP'? There are: MLP."),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(options, expected):
    with pytest.raises(ScanError, match="1 problem") as error:
        summarize(all_scored(lambda index, fold: 0.5), **options)
    assert expected in str(error.value)


def test_families_are_chosen_by_name():
    found = summarize(all_scored(lambda index, fold: 0.5), {"a": GRID[:2], "b": GRID[2:]}, families=["b"])
    assert ([family.name for family in found.families], found.counts.total) == (["b"], 12)


@pytest.mark.parametrize(
    ("values", "codes", "distinct"),
    [
        ([1, None, 1, 2], [0, -1, 0, 1], ["b", "c"]),
        ([None, None], [-1, -1], []),
        ([2, 0, 1], [2, 0, 1], ["a", "b", "c"]),
        ([], [], []),
    ],
    ids=["one unused", "nulls alone", "all used", "empty"],
)
def test_codes_know_only_the_values_of_a_dictionary_that_rows_have(values, codes, distinct):
    column = pa.DictionaryArray.from_arrays(pa.array(values, pa.int32()), pa.array(["a", "b", "c"]))
    found, names = codes_of(pa.chunked_array([column]))
    assert (found.tolist(), names.to_pylist()) == (codes, distinct)


def test_a_folder_is_summarized_by_family(tmp_path):
    folder = write_scan(tmp_path / "s")
    table = pq.read_table(folder.plan)
    second = pa.array(["B" if index < 9 else "A" for index in range(len(table))])
    place = table.schema.get_field_index("family")
    axes = {"axes": {"A": [], "B": []}, "schemas": json.loads(table.schema.metadata[b"nnscan"])["schemas"]}
    changed = table.set_column(place, "family", second).replace_schema_metadata({"nnscan": json.dumps(axes)})
    pq.write_table(changed, folder.plan)
    (family,) = summary.summarize_folder(folder, families=["A"]).families
    assert (family.name, family.configurations) == ("A", len(GRID) - 3)


def epochs_of(curves_by_trial, metric):
    rows = [(key, e, v) for key, values in curves_by_trial.items() for e, v in enumerate(values)]
    schema = pa.schema({"trial": pa.string(), "epoch": pa.int32(), metric: pa.float64()})
    table = pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)
    return table.take(pa.array(np.random.default_rng(0).permutation(len(table))))


def test_another_metric_is_taken_from_the_epochs():
    rows = all_scored(lambda index, fold: 0.1 * index)
    curves = {row["trial"]: [3.0, 1.0 + index, math.nan, 1.0 + index] for index, row in enumerate(rows)}
    (family,) = summarize(rows, metric="val_loss", epochs=epochs_of(curves, "val_loss")).families
    assert family.winner.configuration == configuration_key(GRID[0])
    assert family.winner.mean == pytest.approx(2.0)
    assert family.winner.best_epoch == 1.0 * 2 / 3  # the third fold's least is its epoch 0: 3.0 = 1 + 2, first on ties
    assert family.leaders[-1].mean == pytest.approx(3.0)


@given(st.lists(st.lists(st.sampled_from([0.1, 0.2, 0.3, math.nan]), min_size=1, max_size=4), min_size=1, max_size=4))
def test_best_of_epochs_is_that_of_a_loop(values):
    curves = {f"t{index}": curve for index, curve in enumerate(values)}
    for metric, choose in (("val_loss", min), ("val_accuracy", max)):
        keys, scores, epochs = summary.best_of_epochs(epochs_of(curves, metric), metric)
        expected = {}
        for key, curve in curves.items():
            known = [value for value in curve if not math.isnan(value)]
            if known:
                expected[key] = (choose(known), curve.index(choose(known)))
        assert dict(zip(keys.to_pylist(), zip(scores, epochs, strict=True), strict=True)) == expected


EPOCHS = pa.schema({"epoch": pa.int32(), "val_loss": pa.float64(), "val_accuracy": pa.float64()})
KEYS = pa.schema(dict.fromkeys(("trial", "writer"), pa.dictionary(pa.int32(), pa.string())))
epoch_rows = st.fixed_dictionaries(
    {
        "trial": st.sampled_from([None, "a", "b", "c"]),
        "writer": st.sampled_from("xy"),
        "epoch": st.integers(0, 3),
        **dict.fromkeys(("val_loss", "val_accuracy"), st.sampled_from([0.1, 0.2, 0.3, math.nan, None])),
    }
)


@given(st.lists(epoch_rows, max_size=12), st.sampled_from([("val_loss", min), ("val_accuracy", max)]))
def test_of_each_run_of_an_attempt_the_best_row_is_left(rows, asked):
    """In whatever order the rows stand: an attempt may have several runs of them."""
    metric, choose = asked
    expected = []
    for (trial, writer), run in groupby(rows, key=itemgetter("trial", "writer")):
        known = [(row[metric], row["epoch"]) for row in run if row[metric] is not None and not math.isnan(row[metric])]
        if known:
            best = choose(value for value, _ in known)
            earliest = min(epoch for value, epoch in known if value == best)
            expected += [(trial, writer, best, earliest)] * known.count((best, earliest))
    left = summary.best_rows(pa.Table.from_pylist(rows, schema=pa.unify_schemas([KEYS, EPOCHS])), metric)
    assert [tuple(row.values()) for row in left.select(["trial", "writer", metric, "epoch"]).to_pylist()] == expected


def test_curves_have_the_epoch_as_index():
    table = epochs_of({"a": [0.1, 0.2], "b": [0.3]}, "val_loss")
    first, second, none = summary.curves(table, ["a", "b", "c"], "val_loss")
    assert (first.tolist(), second.tolist(), none.tolist()) == ([0.1, 0.2], [0.3], [])


def retraining_row(point, **changes):
    key = key_of(point, kind=Kind.RETRAINING, epochs=4)
    tested = {"metric": "", "score": None, "epochs": 4, "test_loss": 0.2, "test_accuracy": 0.97}
    return row_of(point, **{"trial": key, "kind": "retraining", **tested, **changes})


def test_retrained_winners_stand_beside_their_validation_score():
    rows = all_scored(lambda index, fold: 0.1 * index + 0.01 * fold)
    failed = retraining_row(GRID[0], status="failed", error="RuntimeError: x\ny", test_accuracy=None)
    stranger = retraining_row(configuration(width=9))
    found = summarize([*rows, retraining_row(GRID[-1]), failed, stranger])
    first, second = found.retrained
    assert (first.family, first.epochs, first.test_accuracy, first.test_loss, first.winner) == (
        "MLP",
        4,
        0.97,
        0.2,
        True,
    )
    assert (first.validation_mean, first.validation_std) == (pytest.approx(0.51), pytest.approx(0.01))
    assert (second.winner, second.status, second.cause) == (False, "failed", "RuntimeError: x")
    assert math.isnan(second.test_accuracy)
    assert found.counts.total == 18


def test_an_empty_store_is_all_pending():
    found = summarize([])
    assert (found.counts.pending, found.counts.total) == (18, 18)
    (family,) = found.families
    assert (family.winner, family.cheapest, family.tie_factor, family.untouched) == (None, None, None, 6)
    assert (family.leaders, family.marginals, family.incomplete, found.retrained) == ((), (), (), ())


@pytest.fixture
def scan(tmp_path):
    return write_scan(tmp_path / "s")


def test_a_folder_is_summarized_from_journals_and_parts(scan):
    every = [(point, fold, 0.1 * index) for index, point in enumerate(GRID) for fold in range(3)]
    write_bundle(scan, "b1", every[:9])
    store.close_journals(scan, lambda name: True, Cause.INTERRUPTED)
    writer = write_bundle(scan, "b2", every[9:])
    found = summary.summarize_folder(scan, top=2)
    assert (found.scan, found.metric, found.counts.completed) == ("s", "val_accuracy", 18)
    assert found.families[0].axes == ("model.width", "optimizer.learning_rate")
    assert [leader.mean for leader in found.families[0].leaders] == pytest.approx([0.5, 0.4])
    writer.close()
    store.close_journals(scan, lambda name: True, Cause.INTERRUPTED)
    assert summary.summarize_folder(scan, top=2) == found  # constant columns are left out now: nothing changes


def test_a_folder_is_summarized_by_another_metric(scan):
    write_bundle(scan, "b1", [(point, fold, 0.1 * index) for index, point in enumerate(GRID) for fold in range(3)])
    (family,) = summary.summarize_folder(scan, metric="val_loss").families
    assert (family.winner.mean, family.winner.best_epoch) == (pytest.approx(0.5), 0.0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=8), st.sampled_from([0, 1, 2]))
@settings(max_examples=15)
def test_scores_by_another_metric_are_those_of_loops(tmp_path_factory, trials, sealed):
    """Over the rows of epochs/, from journals, parts and compacted parts, where a trial may have several attempts."""
    folder = write_scan(tmp_path_factory.mktemp("s"))
    for number, (index, score) in enumerate(trials):
        writer = write_bundle(folder, f"b{number}", [(GRID[index], fold, score / 8) for fold in range(3)])
        if number % 3 < sealed:
            writer.close()
            store.close_journals(folder, lambda name, own=f"b{number}": name == own, Cause.INTERRUPTED)
    if sealed == 2:
        compact(folder)
    losses = {}
    for row in store.read_epochs(folder).to_pylist():
        losses.setdefault(row["configuration"], {}).setdefault(row["trial"], []).append((row["val_loss"], row["epoch"]))
    (family,) = summary.summarize_folder(folder, metric="val_loss").families
    found = {leader.configuration: (leader.mean, leader.best_epoch) for leader in family.leaders}
    bests = {key: [min(rows) for rows in by_trial.values()] for key, by_trial in losses.items()}
    assert found == {
        key: (pytest.approx(statistics.mean(v for v, _ in best)), pytest.approx(statistics.mean(e for _, e in best)))
        for key, best in bests.items()
    }


def test_a_folder_tells_running_trials(scan):
    writer = write_bundle(scan, "b1", [(GRID[0], 0, 0.5)])
    writer.start(
        {"trial": key_of(GRID[0], 1), "attempt": 1, "configuration": configuration_key(GRID[0]), "settings": GRID[0]}
    )
    found = summary.summarize_folder(scan)
    assert (found.counts.completed, found.counts.running, found.counts.pending) == (1, 1, 16)


@pytest.mark.parametrize("metric", ["val_acuracy", "test_accuracy", "val_class_accuracy"])
def test_a_metric_that_cannot_rank_is_refused(scan, metric):
    with pytest.raises(ScanError, match="--metric: no metric"):
        summary.summarize_folder(scan, metric=metric)


def test_a_folder_without_a_launch_says_how_to_start_one(tmp_path):
    with pytest.raises(ScanError, match="nnscan launch"):
        summary.summarize_folder(ScanFolder(tmp_path))
