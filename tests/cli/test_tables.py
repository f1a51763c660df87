"""A summary as people and programs get it: on terminals of several widths, in a pipe, in files."""

import csv
import io
import json
import math
import re
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.cells import cell_len
from rich.console import Console
from scan_by_hand import GRID, all_scored, configuration, key_of, plan_of, row_of, trials_of

from nnscan.cli import export, plain, tables
from nnscan.identity import configuration_key
from nnscan.results import wording
from nnscan.results.summary import summarize
from nnscan.trial import Kind

RERUN = "nnscan launch scans/mnist/scan.toml"


def wide_configuration(width, channels, optimizer, rate, batch_size, norm):
    """Six axes, one a list, one a boolean."""
    point = configuration(width, rate, optimizer)
    model = {**point["model"], "channels": channels, "batch_norm": norm}
    return {**point, "model": model, "training": {"batch_size": batch_size}}


SIX_AXES = [
    wide_configuration(*values)
    for values in product((64, 256), ([16, 32], [32, 64, 64]), ("sgd", "adam"), (0.1, 0.0001), (32, 128), (True, False))
]
TIES = ((0.90, 0.95, 0.85), (0.94, 0.93, 0.84), (0.99, 0.89, 0.96))
"""Scores of three configurations, 32, 64 and 128 wide: the first two are tied with the last."""


def tied_summary(**options):
    points = [configuration(width) for width in (32, 64, 128)]
    rows = all_scored(lambda index, fold: TIES[index][fold], points)
    return summarize(plan_of({"MLP": points}), trials_of(rows, points), metric="val_accuracy", scan="s", **options)


def full_summary(**options):
    """Every part of a summary: six axes, an incomplete configuration, two causes, two retrainings."""
    random = np.random.default_rng(0)
    rows = [row_of(point, fold, 0.9 + 0.05 * random.random()) for point in SIX_AXES for fold in range(3)]
    rows[0].update(status="failed", failure="config", error="ValueError: kernel size (5) is above the input size (2)")
    rows[4].update(status="diverged", error="val_loss is nan at epoch 3")
    rows[5].update(status="diverged", error="val_loss is nan at epoch 3")
    tested = {"kind": "retraining", "epochs": 12, "test_loss": 0.12, "test_accuracy": 0.97}
    rows += [{**row_of(SIX_AXES[index]), "trial": f"{index:032x}", **tested} for index in (7, 8)]
    plan = plan_of({"CNN": SIX_AXES})
    return summarize(plan, trials_of(rows, SIX_AXES), metric="val_accuracy", scan="mnist", top=5, **options)


def on_terminal(summary, width):
    console = Console(force_terminal=True, color_system="standard", width=width, file=io.StringIO(), highlight=False)
    tables.print_summary(summary, rerun=RERUN, console=console)
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).split("\n")


def piped(summary, width=80):
    console = Console(width=width, file=io.StringIO(), highlight=False)
    tables.print_summary(summary, rerun=RERUN, console=console)
    return console.file.getvalue().split("\n")


def table_after(lines, head):
    """The rows of the table whose head begins with `head`, as dictionaries of words."""
    start = next(index for index, line in enumerate(lines) if line.split()[:1] == [head])
    names = lines[start].split()
    rows = []
    for line in lines[start + 1 :]:
        if len(line.split()) != len(names):
            return rows
        rows.append(dict(zip(names, line.split(), strict=True)))
    return rows


# ---- terminals ----


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_a_terminal_shows_all_of_six_axes_within_its_width(width):
    summary = full_summary()
    lines = on_terminal(summary, width)
    text = "\n".join(lines)
    assert all(cell_len(line.rstrip()) <= width or line.startswith("    nnscan") for line in lines)
    assert "…" not in text
    for leader in summary.families[0].leaders:
        assert leader.configuration[:16] in text
        assert f"{leader.mean:.4f} ± {leader.std:.4f}" in text
    for value in ("[32,64,64]", "0.0001", "adam", "true", "128", "256"):
        assert value in text


def test_a_wide_terminal_has_one_row_a_configuration():
    summary = full_summary()
    best = summary.families[0].winner
    (row,) = [line for line in on_terminal(summary, 200) if best.configuration[:16] in line]
    words = row.split()
    assert words[:2] == ["1", "*"]
    assert words[-6:] == [wording.value_text(best.hyperparameters[axis]) for axis in summary.families[0].axes]


def test_a_narrow_terminal_repeats_the_rank_beside_the_axes():
    lines = on_terminal(full_summary(), 80)
    assert sum(line.startswith("1 *") for line in lines) == 2


def test_a_command_to_be_copied_is_never_broken():
    summary = full_summary()
    lines = [line.rstrip() for line in on_terminal(summary, 60)]
    for trouble in summary.troubles:
        assert f"    {RERUN} --cluster inline --trial {trouble.trial[:16]}" in lines


def test_markup_in_a_value_is_text():
    points = [configuration(optimizer="sgd"), configuration(optimizer="[bold]adam[/bold]")]
    rows = [
        *all_scored(lambda index, fold: 0.1 * index, points[:1]),
        row_of(points[1], status="failed", error="[red]no"),
    ]
    summary = summarize(plan_of({"[b]": points}), trials_of(rows, points), metric="val_accuracy", scan="[i]")
    text = "\n".join(on_terminal(summary, 120))
    assert all(shown in text for shown in ("[i]:", "[b]:", "[red]no", "[bold]adam[/bold]"))


def test_an_empty_scan_is_shown():
    summary = summarize(plan_of({"MLP": GRID}), trials_of([]), metric="val_accuracy", scan="s")
    assert [line for line in on_terminal(summary, 80) if line] == [
        "s: 18 trials, 18 pending",
        "MLP: 6 configurations, 0 complete, 6 not begun",
    ]


# ---- pipes ----


def test_a_pipe_gets_whole_keys_and_no_drawing_whatever_the_width():
    summary = full_summary()
    lines = piped(summary)
    assert lines == piped(summary, width=500)
    assert not re.search(r"[\x1b│─━█…]", "\n".join(lines))
    rows = table_after(lines, "rank")
    leaders = summary.families[0].leaders
    assert [row["configuration"] for row in rows] == [leader.configuration for leader in leaders]
    assert [float(row["mean"]) for row in rows] == [round(leader.mean, 4) for leader in leaders]
    assert [row["optimizer.name"] for row in rows] == [leader.hyperparameters["optimizer.name"] for leader in leaders]
    assert rows[0]["mark"] == "*"


def test_a_pipe_gets_incomplete_ones_marginals_and_retrainings():
    summary = full_summary()
    lines = piped(summary)
    incomplete = table_after(lines, "configuration")
    assert [(row["scored"], row["failed"], row["diverged"]) for row in incomplete] == [("2", "1", "0"), ("1", "0", "2")]
    effects = [effect for marginal in summary.families[0].marginals for effect in marginal.effects]
    assert [float(row["mean"]) for row in table_after(lines, "axis")] == [round(effect.mean, 4) for effect in effects]
    assert [row["test_accuracy"] for row in table_after(lines, "family")] == ["0.9700", "0.9700"]
    assert "2 diverged: val_loss is nan at epoch 3" in lines
    assert "1 failed (config): ValueError: kernel size (5) is above the input size (2)" in lines


def test_by_gives_a_table_a_value():
    lines = piped(full_summary(by="optimizer.name"))
    assert [line for line in lines if line.startswith("optimizer.name") and line.endswith(":")] == [
        "optimizer.name sgd:",
        "optimizer.name adam:",
    ]
    assert table_after(lines, "axis")[0]["axis"] == "optimizer.name"


def test_a_value_with_blanks_is_one_word_in_a_pipe():
    points = [configuration(optimizer=name) for name in ("my sgd", "my adam")]
    rows = all_scored(lambda index, fold: 0.5, points)
    summary = summarize(plan_of({"MLP": points}), trials_of(rows, points), metric="val_accuracy")
    assert {row["optimizer.name"] for row in table_after(piped(summary), "rank")} == {"my_sgd", "my_adam"}


# ---- words ----


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 m 00 s"), (80, "1 m 20 s")),
        *((3599.4, "59 m 59 s"), (3599.6, "1 h 00 m"), (7384, "2 h 03 m"), (90000, "25 h 00 m"), (math.nan, "-")),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.97123, "0.9712"), (0.0, "0.0000"), (1.5e-7, "1.500e-07"), (-12.5, "-12.5000"), (math.nan, "-")],
)
def test_scores_have_four_digits(value, text):
    assert wording.score(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (True, "true"), (0.0001, "0.0001"), ([32, 64], "[32,64]"), ("adam", "adam"), (3, "3")],
)
def test_values_are_one_word(value, text):
    assert wording.value_text(value) == text


def test_names_are_shortened_as_far_as_they_differ():
    paths = ["model.name", "optimizer.name", "optimizer.schedule.name", "model.width", "a.rate", "b.rate", "b.c.rate"]
    assert list(wording.short_names(paths).values()) == [
        *("model", "optimizer", "schedule", "width", "a.rate", "b.rate", "c.rate"),
    ]


def test_bars_go_from_the_least_to_the_greatest():
    assert tables.bars([0.1, 0.2, 0.15]) == ["", "█" * 12, "█" * 6]
    assert tables.bars([0.0, 96.0, 1.0]) == ["", "█" * 12, "▏"]
    assert tables.bars([0.5, 0.5]) == ["", ""]


def test_small_losses_have_the_longer_bar():
    points = [configuration(32), configuration(64)]
    rows = [{**row, "metric": "val_loss"} for row in all_scored(lambda index, fold: 1.0 + index, points)]
    summary = summarize(plan_of({"MLP": points}), trials_of(rows, points), metric="val_loss")
    (best,) = [line for line in on_terminal(summary, 80) if "█" * 12 in line]
    assert best.split()[:3] == ["model.width", "32", "1.0000"]


def test_ties_are_explained_with_the_cheapest_of_them():
    (family,) = tied_summary(top=1).families
    first, hidden, cheapest = wording.tie_lines(family)
    assert "n = 3 scores" in first
    assert "2.67" in first
    assert hidden == "2 more are tied."
    assert family.cheapest.configuration[:16] in cheapest
    assert "0.25 of the winner's parameters" in cheapest
    assert [row["mark"] for row in table_after(piped(tied_summary()), "rank")] == ["*", "=", "="]


def test_a_single_trial_each_says_why_nothing_is_tied():
    rows = [row_of(point, score=0.1 * index) for index, point in enumerate(GRID)]
    summary = summarize(plan_of({"MLP": GRID}, folds=1), trials_of(rows), metric="val_accuracy")
    (line,) = wording.tie_lines(summary.families[0])
    assert "one trial a configuration has no spread" in line


def test_a_retraining_says_what_its_numbers_do_not():
    rows = all_scored(lambda index, fold: 0.1 * index)
    key = key_of(GRID[0], kind=Kind.RETRAINING, epochs=3)
    failed = {**row_of(GRID[0]), "trial": key, "kind": "retraining", "status": "failed", "error": "OSError: full\nmore"}
    summary = summarize(plan_of({"MLP": GRID}), trials_of([*rows, failed]), metric="val_accuracy")
    assert wording.retrained_note(summary.retrained[0]) == "failed: OSError: full"


# ---- files ----


def test_json_holds_all_and_null_for_what_is_no_number():
    summary = full_summary()
    told = json.loads(export.to_json(summary))
    assert told["counts"]["total"] == 192
    family = told["families"][0]
    assert family["winner"]["configuration"] == summary.families[0].winner.configuration
    assert family["winner"]["hyperparameters"]["model.channels"] in ([16, 32], [32, 64, 64])
    assert len(family["incomplete"]) == 2
    assert len(told["troubles"]) == 2
    rows = [row_of(point, score=0.5) for point in GRID]
    single = summarize(plan_of({"MLP": GRID}, folds=1), trials_of(rows), metric="val_accuracy")
    assert json.loads(export.to_json(single))["families"][0]["winner"]["std"] is None


def test_csv_has_a_row_a_leader():
    summary = tied_summary()
    rows = list(csv.DictReader(io.StringIO(export.to_csv(summary))))
    assert [float(row["mean"]) for row in rows] == [leader.mean for leader in summary.families[0].leaders]
    assert [row["model.width"] for row in rows] == ["128", "64", "32"]
    assert [row["winner"] for row in rows] == ["true", "false", "false"]


def test_parquet_has_typed_columns(tmp_path):
    path = tmp_path / "board.parquet"
    path.write_bytes(export.to_parquet(full_summary()))
    table = pq.read_table(path)
    assert table.schema.field("model.channels").type == pa.list_(pa.int64())
    assert table.schema.field("model.batch_norm").type == pa.bool_()
    assert table.schema.field("optimizer.learning_rate").type == pa.float64()
    assert table["rank"].to_pylist() == [1, 2, 3, 4, 5]
    assert table["configuration"][0].as_py() == full_summary().families[0].winner.configuration


def test_families_with_other_axes_share_a_table():
    points = [configuration(32), configuration(64)]
    others = [configuration(128, 0.1), configuration(128, 0.2)]
    rows = all_scored(lambda index, fold: 0.1 * index, [*points, *others])
    summary = summarize(
        plan_of({"a": points, "b": others}), trials_of(rows, [*points, *others]), metric="val_accuracy", scan="s"
    )
    table = export.to_table(summary)
    assert table["model.width"].to_pylist() == [64, 32, None, None]
    assert table["optimizer.learning_rate"].to_pylist() == [None, None, 0.2, 0.1]
    assert next(csv.DictReader(io.StringIO(export.to_csv(summary))))["optimizer.learning_rate"] == ""


def test_a_board_without_leaders_is_an_empty_table():
    summary = summarize(plan_of({"MLP": GRID}), trials_of([]), metric="val_accuracy", scan="s")
    assert export.to_table(summary).num_rows == 0
    assert export.to_csv(summary).startswith("scan,metric,family,rank,")
    assert configuration_key(GRID[0]) not in "\n".join(plain.lines(summary, RERUN))
