from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from scan_by_hand import END, GRID, PLACE, start_of, write_bundle, write_scan
from submitted_by_hand import LAUNCH, running, submitted_scan, tell_queue, trials, waiting

from nnscan import launch_folder, watching
from nnscan.launch_folder import Launch
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer
from nnscan.results.lock import hold
from nnscan.results.progress import Follower, Progress
from nnscan.scheduled import Scheduled, look
from nnscan.trial import Kind

ALL = [(point, fold, 0.5) for point in GRID for fold in range(3)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 0.1)


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    return submitted_scan(tmp_path / "s")


def watch(folder: ScanFolder, shown: list[Progress] | None = None) -> tuple[Progress, Scheduled]:
    return watching.watch(folder, (shown if shown is not None else []).append, lambda: look(folder))


def test_a_scan_that_is_done_is_over_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 60.0)
    folder = write_scan(tmp_path / "s")
    write_bundle(folder, "l-0", ALL)
    progress, scheduled = watch(folder)
    assert (progress.ended, scheduled) == (18, Scheduled())


def test_it_is_followed_until_the_launch_lets_go(tmp_path: Path) -> None:
    folder, shown = write_scan(tmp_path / "s"), list[Progress]()

    def launch() -> None:
        with hold(folder, "launch"):
            entered.set()
            for trial in ALL[:4]:
                time.sleep(0.02)
                write_bundle(folder, "l-0", [trial])
            time.sleep(0.02)

    entered = threading.Event()
    thread = threading.Thread(target=launch)
    thread.start()
    entered.wait()
    progress, _ = watch(folder, shown)
    thread.join()
    assert progress.completed == 4
    assert progress == shown[-1]
    assert [one.completed for one in shown] == sorted(one.completed for one in shown)


def test_jobs_are_waited_for(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_queue(monkeypatch, {"100_0": running()})
    progress = Follower(folder).poll()
    assert not watching.is_over(folder, progress, look(folder))
    tell_queue(monkeypatch, {"100_1": waiting()})
    assert not watching.is_over(folder, progress, look(folder))
    tell_queue(monkeypatch, {})
    assert watching.is_over(folder, progress, look(folder))


def test_what_can_never_start_is_not_waited_for(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_queue(monkeypatch, {"100_1": waiting("PartitionTimeLimit")})
    assert [job.job for job in watch(folder)[1].jobs] == ["100_1"]
    tell_queue(monkeypatch, {"100_0": running(), "100_1": waiting("PartitionTimeLimit")})
    assert not watching.is_over(folder, Follower(folder).poll(), look(folder))


def test_while_the_scheduler_is_silent_only_a_whole_scan_is_over(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_queue(monkeypatch, {"100_0": running()}, error="no controller")
    progress, scheduled = Follower(folder).poll(), look(folder)
    assert not watching.is_over(folder, progress, scheduled)
    assert watching.is_over(folder, replace(progress, completed=18, pending=0), scheduled)
    assert not watching.is_over(folder, replace(progress, completed=18, running=1, pending=0), scheduled)


def test_nothing_is_over_before_the_scheduler_said_a_word(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_queue(monkeypatch, {})
    answers = iter([None, None, None])
    looks: list[Progress] = []
    watching.watch(folder, looks.append, lambda: next(answers, look(folder)))
    assert len(looks) > 3


def test_a_launch_that_lets_go_before_its_jobs_are_seen_is_not_the_end(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_queue(monkeypatch, {})
    late = iter([look(folder)] * 3)
    tell_queue(monkeypatch, {"100_0": running()})
    asked = 0

    def scheduled() -> Scheduled:
        nonlocal asked
        asked += 1
        if asked == 40:
            tell_queue(monkeypatch, {})
        return next(late, None) or look(folder)

    watching.watch(folder, lambda _: None, scheduled)
    assert asked > 40


def test_another_plan_is_followed_from_its_launch_on(tmp_path: Path) -> None:
    folder = write_scan(tmp_path / "s", GRID[:2])
    totals: list[int] = []

    def show(progress: Progress) -> None:
        totals.append(progress.total)
        if len(totals) == 3:
            write_scan(folder.path, GRID)

    watching.watch(folder, show, Scheduled)
    assert (totals[0], totals[-1]) == (6, 18)


def test_retrainings_are_found_among_all_that_runs(tmp_path: Path) -> None:
    folder = submitted_scan(tmp_path / "s")
    Writer(folder, f"{LAUNCH}-0", PLACE).start(start_of(GRID[1], 0))
    assert watching.retrainings(folder) == []
    retraining = replace(trials(("MLP", "B"))[0], key="f" * 32, kind=Kind.RETRAINING, epochs=20)
    launch_folder.write(folder, Launch(name="later", scan="s", metric="m", code=".", data_root="."), [retraining])
    writer = Writer(folder, "later-0", PLACE)
    writer.start({**start_of(GRID[0], 0), "trial": "f" * 32, "kind": "retraining", "epochs": 20})
    writer.epoch({"trial": "f" * 32, "epoch": 7, "metrics": {}})
    assert [(one.trial, one.epoch, one.epochs) for one in watching.retrainings(folder)] == [("f" * 32, 7, 20)]
    writer.end({"trial": "f" * 32, **END})
    assert watching.retrainings(folder) == []
