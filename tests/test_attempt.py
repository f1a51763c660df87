from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan import attempt
from nnscan.allocation import AllocationEndedError, Reason
from nnscan.attempt import CancelledError
from nnscan.errors import DataError, StoreError
from nnscan.failure import Thrown
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer
from nnscan.training.place import TakenOverError
from nnscan.trial import Failure, Kind, Status, Trial

KEY = "a" * 32


@dataclass
class Scripted:
    """A training that yields what it was told to, and notes what it was asked."""

    rows: list[dict[str, Any]]
    first_epoch: int = 1
    error: BaseException | None = None
    at_the_end: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    of_steps: dict[int, dict[str, list[float]]] = field(default_factory=dict)

    def columns(self) -> dict[str, Any]:
        return {"parameters": 7}

    def epochs(self) -> Iterator[dict[str, Any]]:
        yield from self.rows
        if self.error is not None:
            raise self.error

    def steps(self, epoch: int) -> dict[str, list[float]]:
        return self.of_steps.get(epoch, {})

    def finish(self) -> dict[str, Any]:
        self.asked.append("finish")
        return dict(self.at_the_end)

    def remove_checkpoints(self) -> None:
        self.asked.append("remove checkpoints")


def trial(data: str = "digits") -> Trial:
    settings = {"data": {"name": data} if data else {}, "training": {"epochs": 3}}
    return Trial(
        key=KEY, configuration="c" * 32, settings=settings, families=("A", "B"), epochs=3, fold=1, kind=Kind.TRIAL
    )


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    writer = Writer(ScanFolder(tmp_path), "bundle", {})
    yield writer
    writer.close()


def run(writer: Writer, training: Scripted, metric: str = "val_loss", one: Trial | None = None) -> attempt.Ending:
    return attempt.run(one or trial(), 2, writer, lambda: training, metric)


def rows(writer: Writer, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in writer.journal.path.read_text().splitlines()]
    return [line for line in lines if line["row"] == kind]


def losses(*values: float) -> list[dict[str, Any]]:
    return [{"val_loss": value, "val_accuracy": 1 - value} for value in values]


def test_steps_follow_the_epoch_that_they_are_of_where_there_are_any(writer: Writer) -> None:
    run(writer, Scripted(losses(0.5, 0.25), of_steps={2: {"loss": [0.25, 0.125]}}))
    assert rows(writer, "steps") == [{"row": "steps", "trial": KEY, "epoch": 2, "values": {"loss": [0.25, 0.125]}}]
    kinds = [json.loads(line)["row"] for line in writer.journal.path.read_text().splitlines()]
    assert kinds == ["writer", "start", "epoch", "epoch", "steps", "end"]


def test_a_completed_attempt_is_a_start_its_epochs_and_an_end(writer: Writer) -> None:
    training = Scripted(losses(0.5, 0.25, 0.375))
    ending = run(writer, training)
    assert ending == attempt.Ending(Status.COMPLETED)
    assert training.asked == ["finish", "remove checkpoints"]
    (start,) = rows(writer, "start")
    expected = {
        "trial": KEY,
        "attempt": 2,
        "configuration": "c" * 32,
        "families": ["A", "B"],
        "kind": "trial",
        "fold": 1,
        "replicate": 0,
        "epochs": 3,
        "settings": {"data": {"name": "digits"}, "training": {"epochs": 3}},
    }
    assert {name: start[name] for name in expected} == expected
    assert [(row["epoch"], row["metrics"]["val_loss"]) for row in rows(writer, "epoch")] == [
        (1, 0.5),
        (2, 0.25),
        (3, 0.375),
    ]
    (end,) = rows(writer, "end")
    expected = {
        "trial": KEY,
        "attempt": 2,
        "status": "completed",
        "failure": "",
        "error": "",
        "traceback": "",
        "metric": "val_loss",
        "score": 0.25,
        "best_epoch": 2,
        "epochs_run": 3,
        "parameters": 7,
        "metrics": {"val_loss": 0.25, "val_accuracy": 0.75},
    }
    assert {name: end[name] for name in expected} == expected
    assert end["seconds"] == pytest.approx(end["time"] - start["time"])


def test_what_comes_at_the_end_stands_in_the_end_row(writer: Writer) -> None:
    run(writer, Scripted([{"train_loss": 0.5}], at_the_end={"test_loss": 0.125, "metrics": {"train_loss": 0.5}}))
    (end,) = rows(writer, "end")
    assert (end["test_loss"], end["score"], end["best_epoch"]) == (0.125, None, None)
    assert end["metrics"] == {"train_loss": 0.5}


@pytest.mark.parametrize(
    ("metric", "first_epoch", "best", "run_epochs"),
    [("val_loss", 0, 1, 2), ("val_accuracy", 0, 1, 2), ("val_loss", 1, 2, 3), ("absent", 1, None, 3)],
)
def test_the_best_epoch_goes_by_the_metric_and_the_number_of_the_first(
    writer: Writer, metric: str, first_epoch: int, best: int | None, run_epochs: int
) -> None:
    run(writer, Scripted(losses(0.5, 0.25, 0.25), first_epoch), metric)
    (end,) = rows(writer, "end")
    assert (end["best_epoch"], end["epochs_run"]) == (best, run_epochs)


def test_a_retraining_has_no_best_epoch_and_tells_the_metrics_of_its_last(writer: Writer) -> None:
    run(writer, Scripted(losses(0.25, 0.5)), one=replace(trial(), kind=Kind.RETRAINING))
    (end,) = rows(writer, "end")
    assert (end["score"], end["best_epoch"], end["metrics"]["val_loss"]) == (None, None, 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["train_loss", "own_error"])
def test_a_loss_that_is_no_number_ends_the_trial_as_diverged(writer: Writer, name: str, value: float) -> None:
    training = Scripted([*losses(0.5), {"val_loss": 0.25, name: value}, *losses(0.125)])
    assert run(writer, training).status is Status.DIVERGED
    assert training.asked == ["remove checkpoints"]
    (end,) = rows(writer, "end")
    assert (end["status"], end["failure"], end["epochs_run"], end["best_epoch"]) == ("diverged", "", 2, 2)
    assert len(rows(writer, "epoch")) == 2


def test_an_accuracy_that_is_no_number_is_no_divergence(writer: Writer) -> None:
    assert run(writer, Scripted([{"val_loss": 0.5, "val_accuracy": math.nan}])).status is Status.COMPLETED


class UserError(Exception):
    """Of a user's own."""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (UserError("words"), "config"),
        (MemoryError(), "out of memory"),
        (SystemExit(2), "config"),
        (StopIteration(), "config"),
    ],
    ids=repr,
)
def test_what_a_training_throws_is_a_result(writer: Writer, error: BaseException, failure: str) -> None:
    training = Scripted(losses(0.5), error=error)
    ending = run(writer, training)
    assert ending.status is Status.FAILED
    assert ending.thrown is not None
    (end,) = rows(writer, "end")
    assert (end["status"], end["failure"], end["epochs_run"], end["score"]) == ("failed", failure, 1, 0.5)
    assert end["error"] == ending.thrown.error
    assert "Traceback" in end["traceback"]
    assert training.asked == []  # a retry goes on from the checkpoint


def test_a_training_that_does_not_open_is_a_failure(writer: Writer) -> None:
    def open_training() -> attempt.Training:
        raise UserError("no such layer")

    attempt.run(trial(), 1, writer, open_training, "val_loss")
    (end,) = rows(writer, "end")
    assert (end["error"], end["epochs_run"], end["metrics"]) == ("UserError: no such layer", 0, {})


@pytest.mark.parametrize(
    "error", [StoreError("disk full"), DataError("vanished"), TakenOverError(), KeyboardInterrupt()], ids=repr
)
def test_what_is_no_fault_of_the_trial_leaves_it_unfinished(writer: Writer, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run(writer, Scripted(losses(0.5), error=error))
    assert rows(writer, "end") == []
    (interrupted,) = rows(writer, "interrupted")
    assert interrupted["trial"] == KEY


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (AllocationEndedError(Reason.TIME_LIMIT), "time limit"),
        (AllocationEndedError(Reason.TERMINATED), "terminated"),
        (CancelledError(), "cancelled"),
        (TakenOverError(), ""),
    ],
    ids=repr,
)
def test_an_attempt_that_ends_on_purpose_says_why(writer: Writer, error: Exception, reason: str) -> None:
    with pytest.raises(type(error)):
        run(writer, Scripted(losses(0.5), error=error))
    (interrupted,) = rows(writer, "interrupted")
    assert interrupted["reason"] == reason
    assert rows(writer, "end") == []


def test_whoever_leads_an_attempt_is_asked_after_each_epoch_and_can_end_it(writer: Writer) -> None:
    training = Scripted(losses(0.5, 0.25, 0.125))

    def check() -> None:
        if len(rows(writer, "epoch")) == 2:
            raise CancelledError

    with pytest.raises(CancelledError):
        attempt.run(trial(), 1, writer, lambda: training, "val_loss", attempt.Lead(check=check))
    assert len(rows(writer, "epoch")) == 2
    assert training.asked == []  # checkpoints stay: another launch may go on


def test_whoever_leads_an_attempt_says_what_it_failed_of(writer: Writer) -> None:
    told = Thrown(Failure.LOST, "rank 1 of 2 died", "words", "")
    lead = attempt.Lead(explain=lambda _: told)
    ending = attempt.run(trial(), 1, writer, lambda: Scripted([], error=UserError()), "val_loss", lead)
    assert ending == attempt.Ending(Status.FAILED, told)
    (end,) = rows(writer, "end")
    assert (end["failure"], end["error"], end["traceback"]) == ("lost", "rank 1 of 2 died", "words")


@pytest.mark.parametrize("data", ["own.data:function", ""], ids=["own data", "own training"])
def test_data_that_a_users_function_gets_wrong_fail_the_trial(writer: Writer, data: str) -> None:
    ending = run(writer, Scripted([], error=DataError("returned labels of one class alone")), one=trial(data))
    assert ending.status is Status.FAILED


def test_the_clock_starts_with_the_attempt(writer: Writer) -> None:
    def slowly(open_: Callable[[], None] = lambda: time.sleep(0.05)) -> attempt.Training:
        open_()
        return Scripted(losses(0.5))

    attempt.run(trial(), 1, writer, slowly, "val_loss")
    (end,) = rows(writer, "end")
    assert 0.05 <= end["seconds"] < 5


@given(st.lists(st.floats(allow_nan=True, allow_infinity=False), max_size=8))
def test_the_score_is_the_smallest_loss_so_far_whatever_came(values: list[float]) -> None:
    curve = attempt.Curve("val_loss", first_epoch=1)
    for number, value in enumerate(values, 1):
        assert curve.add({"val_loss": value}) == number
    columns = curve.columns()
    finite = [value for value in values if not math.isnan(value)]
    assert columns["score"] == (min(finite) if finite else None)
    if finite:
        assert values[columns["best_epoch"] - 1] == min(finite)
    assert columns["epochs_run"] == len(values)
