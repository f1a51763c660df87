from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from rich.text import Text

from nnscan.cli import highlights
from nnscan.cli.parts import Part, fitted
from nnscan.results.highlights import Curve, Highlights, InTraining, Leader, Mishap


def curve(*losses: float, **more: Any) -> Curve:
    rows = tuple({"train_loss": loss / 2, "val_loss": loss, "val_accuracy": 0.9, **more} for loss in losses)
    return Curve(tuple(range(len(losses))), rows)


AXES = {"model.width": 64, "optimizer.learning_rate": 0.01}
LEADER = Leader(
    family="MLP",
    configuration="8f3a2b1c" * 4,
    mean=0.98765,
    scored=3,
    n=3,
    epoch=4.5,
    trial="1" * 32,
    curve=curve(8.0, 4.0, 2.0, 1.0),
    axes=AXES,
)
RUNNING = InTraining(
    trial="4f1c09ab" * 4,
    family="CNN",
    kind="trial",
    fold=1,
    replicate=0,
    attempt=1,
    epochs=20,
    curve=curve(2.0, 1.0),
    axes=AXES,
)
MISHAP = Mishap(
    trial="77aa" * 8, family="CNN", status="failed", failure="config", error="ValueError: no\nmore", ended=1.0
)
NONE = Highlights(leaders=(), running=(), mishaps=())


def logs(trial: str) -> str:
    return f"nnscan logs {trial} --scan s"


def parts(found: Highlights, width: int = 100) -> list[Part]:
    return highlights.parts(found, "val_accuracy", logs, width)


def lines(found: Highlights, width: int = 100, height: int = 40) -> list[str]:
    return [line.plain for line in fitted(parts(found, width), height)]


def test_nothing_to_see_is_no_part() -> None:
    assert parts(NONE) == []


def test_a_leader_is_told_with_score_epoch_key_losses_and_what_varies() -> None:
    head, line = lines(replace(NONE, leaders=(LEADER,)))
    assert head.split() == ["best", "val_accuracy", "epoch", "key", "train", "loss", "val", "loss"]
    assert line.split()[:4] == ["MLP", "0.9877", "4.5", "8f3a2b1c"]
    assert line.split("  ")[-1] == "width 64, learning_rate 0.01"


def test_losses_share_a_logarithmic_scale() -> None:
    (_, line) = lines(replace(NONE, leaders=(LEADER,)))
    train, val = (word for word in line.split() if set(word) <= set("▁▂▃▄▅▆▇█"))
    # From 0.5 to 8 are four doublings: each is 7/4 of a level.
    assert (train, val) == ("▆▅▃▁", "█▆▅▃")


def test_a_narrow_terminal_shows_the_validation_loss_on_its_own_scale() -> None:
    (_, line) = lines(replace(NONE, leaders=(LEADER,)), width=80)
    assert [word for word in line.split() if set(word) <= set("▁▂▃▄▅▆▇█")] == ["█▆▃▁"]


def test_a_wide_one_says_of_how_many_trials() -> None:
    found = replace(NONE, leaders=(LEADER, replace(LEADER, scored=2)))
    _, first, second = lines(found, width=140)
    assert "3 trials" in first and "2 of 3 trials" in second


def test_a_training_without_losses_shows_the_metric() -> None:
    own = Curve((0, 1), ({"val_accuracy": 0.1}, {"val_accuracy": 0.9}))
    head, line = lines(replace(NONE, leaders=(replace(LEADER, curve=own),)))
    assert "val accuracy" in head and "▁█" in line


def test_a_family_is_named_once_and_its_best_is_shown_before_any_second() -> None:
    second = replace(LEADER, mean=0.5, configuration="2" * 32)
    other = replace(LEADER, family="CNN", configuration="3" * 32)
    found = replace(NONE, leaders=(LEADER, second, other))
    assert [line.split()[:2] for line in lines(found)[1:]] == [["MLP", "0.9877"], ["0.5000", "4.5"], ["CNN", "0.9877"]]
    assert [line.split()[0] for line in lines(found, height=3)[1:]] == ["MLP", "CNN"]


def test_a_trial_in_training_is_told_with_its_epoch() -> None:
    head, line = lines(replace(NONE, running=(RUNNING,)))
    assert head.startswith("in training")
    assert line.split()[:7] == ["CNN", "fold", "1", "1", "of", "20", "0.9000"]
    assert "4f1c09ab" in line


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"replicate": 2}, "CNN fold 1.2 "),
        ({"attempt": 3}, "CNN fold 1 attempt 3 "),
        ({"kind": "retraining"}, "CNN retraining "),
    ],
)
def test_what_is_special_about_a_trial_is_told(change: dict[str, Any], name: str) -> None:
    assert lines(replace(NONE, running=(replace(RUNNING, **change),)))[1].startswith(name)


def test_a_trial_before_its_first_epoch_is_told() -> None:
    assert "- of 20" in lines(replace(NONE, running=(replace(RUNNING, curve=Curve()),)))[1]


def test_failures_are_told_with_the_command_that_shows_the_log() -> None:
    assert lines(replace(NONE, mishaps=(MISHAP,))) == [
        "went wrong last",
        "CNN failed (config): ValueError: no",
        "    nnscan logs 77aa77aa --scan s",
    ]


def test_equal_failures_are_told_once() -> None:
    found = replace(NONE, mishaps=(MISHAP, replace(MISHAP, trial="8" * 32), replace(MISHAP, error="TypeError: x")))
    assert [line for line in lines(found) if "failed" in line] == [
        "CNN failed (config), 2 trials: ValueError: no",
        "CNN failed (config): TypeError: x",
    ]


def test_text_of_a_user_is_no_markup() -> None:
    (shown,) = parts(replace(NONE, mishaps=(replace(MISHAP, error="KeyError: '[bold]'"),)))
    assert isinstance(shown.entries[0][0], Text)
    assert "[bold]" in shown.entries[0][0].plain


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    found = Highlights(leaders=(LEADER,) * 3, running=(RUNNING,) * 3, mishaps=(replace(MISHAP, error="x" * 300),))
    longest = max(len(line) for line in lines(found, width))
    assert longest <= max(width, 36)  # name, score and key stay


def test_scores_that_are_missing_are_no_error() -> None:
    lines(replace(NONE, leaders=(replace(LEADER, epoch=math.nan, curve=Curve(), axes={}, trial=""),)))
