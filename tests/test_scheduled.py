from __future__ import annotations

import os
from pathlib import Path

import pytest
from scan_by_hand import write_scan
from submitted_by_hand import LAUNCH, end_bundle, running, submit, submitted_scan, tell_queue, waiting

from nnscan.launchers.slurm.jobs import Jobs, SubmittedArray
from nnscan.launchers.slurm.queue import JobState, Queue
from nnscan.results.folder import ScanFolder
from nnscan.scheduled import Scheduled, advice, look, scheduled


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    return submitted_scan(tmp_path / "s")


def test_a_scan_without_jobs_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnscan.launchers.slurm.jobs.ask_queue", lambda _: pytest.fail("asked"))
    assert look(write_scan(tmp_path / "s")) == Scheduled()


def test_what_the_queue_holds_is_told_by_bundle(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_queue(
        monkeypatch, {"100_0": running("nn2"), "100_1": waiting(), "100_2": JobState("COMPLETED"), "7": running()}
    )
    found = look(folder)
    assert [(job.job, job.bundle, job.start, job.stop, job.waits) for job in found.jobs] == [
        ("100_0", f"{LAUNCH}-0", 0, 6, False),
        ("100_1", f"{LAUNCH}-6", 6, 12, True),
    ]
    assert (found.running, found.waiting) == ([found.jobs[0]], [found.jobs[1]])
    assert found.submitted


def test_the_last_answer_stands_while_the_scheduler_is_silent(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_queue(monkeypatch, {"100_0": running()}, error="no controller")
    found = look(folder)
    assert (found.error, [job.job for job in found.jobs], found.gone) == ("no controller", ["100_0"], ())


def test_a_bundle_that_is_in_no_queue_and_told_no_end_is_gone(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_queue(monkeypatch, {"100_0": running(), "100_2": JobState("CANCELLED")})
    end_bundle(folder, 6)
    assert look(folder).gone == (f"{LAUNCH}-12",)
    folder.stop.write_text("cancelled")
    assert look(folder).gone == ()


def test_bundles_that_gave_up_tell_why(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_queue(monkeypatch, {})
    end_bundle(folder, 0, "torch is another")
    end_bundle(folder, 6)
    assert look(folder).gave_up == {f"{LAUNCH}-0": "torch is another"}


def test_a_later_launch_has_submitted_anew_what_gave_up(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_queue(monkeypatch, {"100_1": running(), "200_0": waiting()})
    end_bundle(folder, 0, "before")
    os.utime(folder.launches / LAUNCH / "bundles" / "0.json", (1.0, 1.0))
    later = LAUNCH.replace("2026", "2027")
    submit(folder, later, [(0, 6)], "200")
    end_bundle(folder, 12, "after")
    found = look(folder)
    assert found.gave_up == {f"{LAUNCH}-12": "after"}
    assert [job.bundle for job in found.jobs] == [f"{LAUNCH}-6", f"{later}-0"]
    assert found.gone == ()


def test_what_was_submitted_since_the_queue_was_asked_may_be_alive(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_bundle(folder, 0)
    tell_queue(monkeypatch, {"100_1": running()}, asked=5.0)
    found = look(folder)
    assert [(job.job, job.is_known) for job in found.jobs] == [("100_1", True), ("100_2", False)]
    assert ([job.job for job in found.running], found.waiting, found.gone) == (["100_1"], [], ())


def test_the_job_that_retrains_is_told_once() -> None:
    first = Jobs(profile={}, arrays=(), submitted=0.0, retrain_job="9")
    its_own = Jobs(profile={}, arrays=(SubmittedArray("9", ((0, 2),), array=False),), submitted=1.0)
    queue = Queue({"9": running()}, asked=2.0)
    assert [(job.job, job.bundle) for job in scheduled({"a": first}, queue).jobs] == [("9", "")]
    assert [(job.job, job.bundle) for job in scheduled({"a": first, "b": its_own}, queue).jobs] == [("9", "b-0")]


@pytest.mark.parametrize(
    "reason",
    [
        "PartitionTimeLimit",
        "PartitionNodeLimit",
        "QOSMaxWallDurationPerJobLimit",
        "QOSMaxCpuPerJobLimit",
        "JobHeldUser",
    ],
)
def test_what_never_starts_has_an_advice(reason: str) -> None:
    assert advice(reason)


@pytest.mark.parametrize("reason", ["Resources", "Priority", "QOSMaxJobsPerUserLimit", "Dependency", "BeginTime", ""])
def test_what_may_start_has_none(reason: str) -> None:
    assert not advice(reason)


def test_a_running_job_has_no_advice(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    tell_queue(monkeypatch, {"100_0": JobState("RUNNING", "PartitionTimeLimit", "nn1")})
    assert [job.advice for job in look(folder).jobs] == [""]
