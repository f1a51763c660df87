"""One trial, followed: from its first row to its result, over seals, retries and two attempts at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scan_by_hand import END, GRID, PLACE, key_of, start_of, write_bundle, write_scan

from nnscan.results import store
from nnscan.results.compaction import compact
from nnscan.results.course import CourseFollower
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer

POINT = GRID[2]
KEY = key_of(POINT, 1)


@pytest.fixture
def scan(tmp_path: Path) -> ScanFolder:
    return write_scan(tmp_path / "s")


def begin(scan: ScanFolder, bundle: str = "b1", **more: Any) -> Writer:
    writer = Writer(scan, bundle, PLACE)
    writer.start({**start_of(POINT, 1), **more})
    return writer


def train(writer: Writer, epochs: range, mark: float = 0.0) -> None:
    for epoch in epochs:
        writer.epoch({"trial": KEY, "epoch": epoch, "metrics": {"val_loss": mark + epoch, "val_accuracy": 0.5}})


def end(writer: Writer, **changes: Any) -> None:
    writer.end({"trial": KEY, **END, "score": 0.5, "seconds": 2.0, "epochs_run": 1, **changes})


def losses(follower: CourseFollower) -> list[float]:
    return follower.poll().curve.values("val_loss")


def test_a_trial_goes_from_pending_to_running_to_its_result(scan: ScanFolder) -> None:
    follower = CourseFollower(scan, KEY)
    write_bundle(scan, "b0", [(GRID[0], 0, 0.5)])
    assert (follower.poll().state, follower.poll().is_over) == ("pending", False)
    writer = begin(scan)
    train(writer, range(2))
    course = follower.poll()
    assert (course.state, course.curve.epochs, course.settings) == ("running", (0, 1), POINT)
    assert (course.row["fold"], course.row["epochs"]) == (1, 2)
    end(writer)
    course = follower.poll()
    assert (course.state, course.is_over, course.row["score"]) == ("completed", True, 0.5)


@pytest.mark.parametrize("new", [False, True], ids=["the same follower", "another"])
def test_sealing_and_compaction_change_nothing(scan: ScanFolder, new: bool) -> None:
    follower = CourseFollower(scan, KEY)
    writer = begin(scan)
    train(writer, range(3))
    end(writer)
    before = follower.poll()
    writer.close()
    store.seal_all(scan)
    compact(scan)
    after = (CourseFollower(scan, KEY) if new else follower).poll()
    assert (after.state, after.settings, after.curve.epochs) == (before.state, before.settings, before.curve.epochs)
    assert after.curve.values("val_loss") == before.curve.values("val_loss")
    assert {name: after.row[name] for name in ("score", "best_epoch", "seconds", "fold")} == {
        name: before.row[name] for name in ("score", "best_epoch", "seconds", "fold")
    }


def test_an_attempt_that_resumes_stands_alone(scan: ScanFolder) -> None:
    follower = CourseFollower(scan, KEY)
    writer = begin(scan, time=1.0)
    train(writer, range(3))
    assert losses(follower) == [0, 1, 2]
    store.close_journals(scan, lambda _: True, Cause.INTERRUPTED)
    assert follower.poll().state == "pending"
    train(begin(scan, "b2", attempt=2, time=2.0), range(2), mark=10.0)
    assert losses(follower) == [10, 11]


def test_of_two_that_run_the_one_that_began_last_is_shown(scan: ScanFolder) -> None:
    train(begin(scan, "b1", time=5.0), range(3))
    train(begin(scan, "b2", time=4.0), range(2), mark=10.0)
    assert losses(CourseFollower(scan, KEY)) == [0, 1, 2]


def test_a_failed_trial_that_is_retried_runs_then_is_what_it_becomes(scan: ScanFolder) -> None:
    follower = CourseFollower(scan, KEY)
    writer = begin(scan)
    end(writer, status="failed", failure="config", error="ValueError: no", score=None)
    assert (follower.poll().state, follower.poll().row["error"]) == ("failed", "ValueError: no")
    writer.close()
    store.seal_all(scan)
    assert follower.poll().state == "failed"
    again = begin(scan, "b2", attempt=2)
    assert follower.poll().state == "running"
    end(again)
    assert follower.poll().state == "completed"


@pytest.mark.parametrize(("attempt", "state"), [(1, "pending"), (2, "pending"), (3, "failed")])
def test_a_lost_attempt_is_a_failure_the_third_time(scan: ScanFolder, attempt: int, state: str) -> None:
    begin(scan, attempt=attempt)
    store.close_journals(scan, lambda _: True, Cause.LOST)
    assert CourseFollower(scan, KEY).poll().state == state


def test_of_two_ends_the_one_stands_that_stands_in_the_table(scan: ScanFolder) -> None:
    for bundle, time in (("b1", 20.0), ("b2", 10.0)):
        writer = begin(scan, bundle)
        train(writer, range(2), mark=time)
        end(writer, time=time)
    follower = CourseFollower(scan, KEY)
    table = store.read_epochs(scan, [KEY])["val_loss"].to_pylist()
    assert losses(follower) == sorted(table) == [10, 11]
    store.close_journals(scan, lambda _: True, Cause.INTERRUPTED)
    assert losses(follower) == [10, 11]


def test_rows_behind_a_closed_journal_do_not_count(scan: ScanFolder) -> None:
    from nnscan.results.journal import append_closed

    writer = begin(scan)
    train(writer, range(2))
    append_closed(writer.journal.path)
    train(writer, range(2, 5))
    assert losses(CourseFollower(scan, KEY)) == [0, 1]
