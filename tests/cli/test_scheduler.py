from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from submitted_by_hand import running, submitted_scan, tell_queue, waiting

from nnscan.cli import scheduler
from nnscan.launchers.slurm.queue import JobState
from nnscan.results.cancelled import Cancelled, write_cancelled
from nnscan.results.folder import ScanFolder
from nnscan.results.store import Running
from nnscan.scheduled import Scheduled, ScheduledJob


def held(*states: JobState, bundle: str = "l-") -> Scheduled:
    """Return that the scheduler holds bundles in these states."""
    jobs = [
        ScheduledJob(job=f"1_{index}", launch="l", bundle=bundle and f"{bundle}{index}", state=state)
        for index, state in enumerate(states)
    ]
    return Scheduled(submitted=True, jobs=tuple(jobs))


def lines(scheduled: Scheduled) -> list[str]:
    return list(scheduler.scheduler_lines(scheduled))


def test_nothing_is_said_of_a_scan_without_a_scheduler() -> None:
    assert lines(Scheduled()) == []


def test_bundles_that_run_tell_where_and_how_long() -> None:
    states = running("nn1", 600), running("nn1", 60), running("nn2", None)
    assert lines(held(*states)) == ["Slurm: 3 bundles run on nn1 (2), nn2, 0:01:00 to 0:10:00 left"]
    assert lines(held(running("nn[1-2]", 90))) == ["Slurm: 1 bundle runs on nn[1-2], 0:01:30 left"]
    assert lines(held(running("nn1", None))) == ["Slurm: 1 bundle runs on nn1"]


def test_many_nodes_are_counted() -> None:
    assert lines(held(*(running(f"n{index}", None) for index in range(9)))) == [
        "Slurm: 9 bundles run on n0, n1, n2, n3, n4, n5, 3 more"
    ]


def test_bundles_that_wait_tell_why() -> None:
    states = waiting("Priority"), waiting(), waiting(), JobState("REQUEUED")
    assert lines(held(*states)) == ["Slurm: 4 bundles wait: Resources 2, Priority 1, REQUEUED 1"]


def test_what_can_never_start_is_told_with_what_to_do() -> None:
    said = lines(held(waiting(), waiting("PartitionTimeLimit"), waiting("PartitionTimeLimit")))
    assert said[0] == "Slurm: 1 bundle waits: Resources 1"
    assert said[1].startswith("Slurm: 2 bundles can never start (PartitionTimeLimit): its walltime is above the limit")
    assert "`time`" in said[1]
    assert said[1].endswith("Then `nnscan cancel`, and launch again")


def test_bundles_of_which_nothing_is_known() -> None:
    submitted = held(running("nn1", None), JobState(""), JobState(""))
    assert lines(submitted) == ["Slurm: 1 bundle runs on nn1", "Slurm: 2 bundles just submitted"]
    silent = lines(replace(held(JobState("")), error="no controller"))
    assert silent[1] == "Slurm: 1 bundle did not tell of an end: waiting, running or cancelled"
    assert lines(held(JobState(""), bundle="")) == ["Slurm: the retraining of the winners, job 1_0, was submitted"]


def test_the_retraining_is_told_apart() -> None:
    assert lines(held(waiting("Dependency"), bundle="")) == [
        "Slurm: the retraining of the winners, job 1_0, waits (Dependency)"
    ]
    assert lines(held(running("nn3"), bundle="")) == ["Slurm: the retraining of the winners, job 1_0, runs on nn3"]
    (never,) = lines(held(waiting("DependencyNeverSatisfied"), bundle=""))
    assert "a job that it waits for has failed" in never


def test_a_silent_scheduler_is_told_with_the_age_of_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    silent = replace(held(running("nn1", None)), error="no controller", asked=930.0)
    assert lines(silent) == [
        "Slurm does not answer (no controller): what it said 0:01:10 ago stands below",
        "Slurm: 1 bundle runs on nn1",
    ]
    (said,) = lines(Scheduled(submitted=True, error="squeue: there is no such command on the PATH"))
    assert said.endswith("all that is told comes from the journals")


def test_bundles_that_gave_up_and_those_that_are_gone() -> None:
    gave_up = {f"l-{index}": f"cause {index}\nmore" for index in range(5)}
    said = lines(Scheduled(submitted=True, gave_up=gave_up, gone=("l-8",)))
    assert said[0].startswith("Slurm: 1 bundle is not in the queue and did not tell its end")
    assert "nnscan logs l-8" in said[0]
    assert said[1:4] == [f"Bundle l-{index} gave up: cause {index}" for index in range(3)]
    assert said[4].startswith("2 bundles more gave up")
    assert "nnscan logs l-0" in said[5]


def test_what_workers_shall_not_start(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    assert list(scheduler.held_back_lines(folder)) == []
    folder.stop.write_text("five failed\nat x.py\n")
    write_cancelled(folder, Cancelled(frozenset(["CNN"]), frozenset(["a", "b"])))
    assert list(scheduler.held_back_lines(folder)) == [
        "Stopped: five failed",
        "Cancelled until the next launch: family CNN, 2 trials",
    ]


def test_the_retraining_of_each_winner_is_told() -> None:
    one = Running(
        **{"trial": "a", "configuration": "b", "families": ("CNN", "CNN2"), "kind": "retraining", "fold": 0},
        **{"replicate": 0, "attempt": 1, "epoch": None, "epochs": 20, "started": 0.0, "metrics": {}},
        **{"host": "nn1", "device": "cpu", "bundle": "l-0", "writer": "w"},
    )
    assert list(scheduler.retraining_lines([one, replace(one, families=("MLP",), epoch=3)])) == [
        "Retraining CNN, CNN2: 0 of 20 epochs, on nn1",
        "Retraining MLP: 3 of 20 epochs, on nn1",
    ]


def test_who_draws_does_not_wait_for_the_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    folder = submitted_scan(tmp_path / "s")
    tell_queue(monkeypatch, {"100_0": running("nn4", None)})
    found = scheduler_answer(folder)
    monkeypatch.setattr("nnscan.scheduled.look", lambda _: answer.wait(10) and found)
    with scheduler.asking(folder) as asked:
        assert (asked.lines(), asked.scheduled) == ([], None)
        answer.set()
        deadline = time.monotonic() + 10
        while not asked.lines() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert asked.lines()[0] == "Slurm: 1 bundle runs on nn4"


def scheduler_answer(folder: ScanFolder) -> Scheduled:
    from nnscan.scheduled import look

    return look(folder)
