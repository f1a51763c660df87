from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from nnscan.cli import course as shown
from nnscan.results.course import Course
from nnscan.results.highlights import Curve

SETTINGS = {
    "model": {"name": "mlp", "width": 64},
    "optimizer": {"name": "adam", "learning_rate": 0.01},
    "training": {"batch_size": 128},
}
METRICS = [
    {"val_loss": 2.0, "val_accuracy": 0.1, "val_class_accuracy": [0.0, 0.2]},
    {"train_loss": 1.0, "val_loss": 0.5, "val_accuracy": 0.8, "val_class_accuracy": [0.6, 1.0], "learning_rate": 0.01},
    {"train_loss": 0.5, "val_loss": 0.7, "val_accuracy": 0.75, "val_class_accuracy": [0.5, 1.0], "learning_rate": 0.01},
]
COURSE = Course(
    trial="4f1c09ab" * 4,
    state="running",
    row={"family": "MLP", "kind": "trial", "fold": 1, "replicate": 0, "epochs": 20, "host": "nn1", "device": "cpu"},
    settings=SETTINGS,
    curve=Curve((0, 1, 2), tuple(METRICS)),
)
OVER = replace(
    COURSE, state="completed", row={**COURSE.row, "score": 0.8, "best_epoch": 1, "seconds": 75.0, "parameters": 1000}
)


def drawn(course: Course, size: tuple[int, int] = (80, 24), varied: tuple[str, ...] = ("model.width",)) -> list[str]:
    console = Console(file=StringIO(), width=size[0], height=size[1], force_terminal=True, color_system=None)
    console.print(shown.drawing(course, varied, size))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return [line.rstrip() for line in text.rstrip("\n").split("\n")]


def test_a_line_tells_the_last_epoch() -> None:
    told = "running, epoch 2 of 20, train_loss 0.5000, val_loss 0.7000, val_accuracy 0.7500"
    assert shown.line(COURSE) == f"Trial 4f1c09ab: {told}"


@pytest.mark.parametrize("last", [{"val_accuracy": 0.5}, {"val_accuracy": 0.5, "val_loss": None}], ids=["none", "null"])
def test_a_metric_that_the_last_epoch_lacks_is_told_as_unknown(last: dict[str, Any]) -> None:
    course = replace(COURSE, curve=Curve((0, 1), ({"val_loss": 2.0, "val_accuracy": 0.1}, last)))
    assert shown.line(course).endswith("epoch 1 of 20, val_loss -, val_accuracy 0.5000")
    assert any(line.startswith("val_loss") for line in drawn(course))


def test_the_drawing_tells_which_trial_its_settings_and_its_curves() -> None:
    lines = drawn(COURSE)
    assert lines[0] == "MLP trial 4f1c09ab: fold 1, replicate 0, on nn1 (cpu)"
    assert lines[1] == "running, epoch 2 of 20"
    assert lines[2] == "width 64   batch_size 128   learning_rate 0.01"
    told = {words[0]: words[-3:] for line in lines if (words := line.split()) and "_" in words[0]}
    assert told["val_loss"] == ["0.7000", "0.5000", "1"]  # last, best, its epoch
    assert told["val_accuracy"] == ["0.7500", "0.8000", "1"]
    assert told["train_loss"] == ["0.5000", "0.5000", "2"]


def bars(course: Course) -> list[int]:
    lines = drawn(course)
    start = next(index for index, line in enumerate(lines) if line.startswith("validation accuracy of each class"))
    return [line.count("█") for line in lines[start + 1 :] for line in line.split("   ")]


def test_bars_move_with_the_training() -> None:
    assert sorted(bars(replace(COURSE, curve=Curve((0,), tuple(METRICS[:1])))))[-1] == 4
    assert sorted(bars(COURSE))[-2:] == [10, 20]


def test_a_hundred_classes_stand_in_columns_and_leave_room_for_the_curves() -> None:
    many = {**METRICS[-1], "val_class_accuracy": [index / 100 for index in range(100)]}
    lines = drawn(replace(COURSE, curve=Curve((0,), (many,))), (120, 24))
    assert len(lines) <= 21
    assert any("val_loss" in line for line in lines)
    assert "lines more" in lines[-1]


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (60, 16), (40, 10), (20, 6)])
def test_it_fits_the_terminal(size: tuple[int, int]) -> None:
    lines = drawn(OVER, size)
    assert len(lines) <= size[1] - 3
    assert max(map(len, lines)) <= size[0]


def test_metrics_of_an_own_training_function_are_drawn() -> None:
    own = Curve((0, 1), ({"error": 0.5, "epoch_seconds": 1.0}, {"error": 0.25, "epoch_seconds": 1.0}))
    assert shown.curve_names(own) == ["error"]
    (line,) = (line for line in drawn(replace(COURSE, curve=own)) if line.startswith("error "))
    assert line.split()[-3:] == ["0.2500", "0.2500", "1"]


def test_a_retraining_tells_its_test() -> None:
    row = {**OVER.row, "kind": "retraining", "test_accuracy": 0.9, "test_loss": 0.25}
    lines = drawn(replace(OVER, row=row))
    assert lines[0].startswith("MLP retraining, trial 4f1c09ab")
    assert any("test_accuracy 0.9000" in line for line in lines)


def test_a_failure_is_told_with_its_error() -> None:
    lines = drawn(replace(COURSE, state="failed", curve=Curve(), row={**COURSE.row, "error": "ValueError: [no]\nx"}))
    assert lines[-2:] == ["went wrong", "ValueError: [no]"]


def test_a_trial_that_nobody_began_is_drawn() -> None:
    assert drawn(Course(trial="4" * 32, state="pending")) == ["trial 44444444", "pending, no epochs"]


@pytest.mark.parametrize(
    ("course", "told"),
    [
        (OVER, "Trial 4f1c09ab: completed after 0:01:15, epoch 2 of 20, score 0.8000 at epoch 1"),
        (Course(trial="4" * 32, state="pending"), "Trial 44444444: pending, no epochs"),
    ],
    ids=["over", "pending"],
)
def test_what_became_of_it_is_told(course: Course, told: str) -> None:
    assert shown.over_line(course) == told


def test_a_log_has_a_line_when_the_state_changes_and_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    lines: list[str] = []
    log = shown.CourseLog(lines.append)

    def at(second: float, course: Course) -> None:
        now[0] = second
        log(course)

    later: dict[str, Any] = {"curve": Curve((0,), tuple(METRICS[:1]))}
    at(0.0, replace(COURSE, state="pending", curve=Curve()))
    at(1.0, replace(COURSE, **later))
    at(2.0, COURSE)  # an epoch later, but too early
    at(12.0, COURSE)
    at(30.0, COURSE)  # nothing new
    at(31.0, OVER)
    assert [line.split(": ")[1].split(", ")[:2] for line in lines] == [
        ["pending", "no epochs"],
        ["running", "epoch 0 of 20"],
        ["running", "epoch 2 of 20"],
        ["completed", "epoch 2 of 20"],
    ]
