from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest
from scan_by_hand import GRID, PLACE, start_of, write_bundle, write_scan
from submitted_by_hand import KEYS, LAUNCH, running, submit, submitted_scan, tell_queue, waiting

from nnscan.cancelling import Cancellation, cancel
from nnscan.errors import ScanError
from nnscan.launchers.slurm import launcher as slurm
from nnscan.launchers.slurm.command import SlurmError
from nnscan.results.cancelled import Cancelled, read_cancelled
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer
from nnscan.results.lock import hold


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What Slurm is told: the commands."""
    commands: list[list[str]] = []
    monkeypatch.setattr(slurm, "run", lambda command: commands.append(command) or "")
    return commands


@pytest.fixture
def submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScanFolder:
    """A scan of three bundles on Slurm, two runs and one waits."""
    folder = submitted_scan(tmp_path / "s")
    tell_queue(monkeypatch, {"100_0": running(), "100_1": waiting(), "100_2": waiting()})
    return folder


# ---- all of it ----


def test_the_whole_scan_is_stopped_and_its_jobs_are_ended_in_one_call(
    submitted: ScanFolder, told: list[list[str]]
) -> None:
    done = cancel(submitted)
    assert done == Cancellation(jobs=("100",), bundles=3)
    assert done.everything
    assert told == [["scancel", "--quiet", "100"]]
    assert submitted.stop.read_text().startswith(f"cancelled by {getpass.getuser()} on {socket.gethostname()}, 2")


def test_jobs_of_all_launches_are_ended(
    submitted: ScanFolder, told: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(submitted, LAUNCH.replace("2026", "2027"), [(0, 18)], "200", retrain_job="201")
    tell_queue(monkeypatch, {"100_2": waiting(), "200_0": running(), "201": waiting("Dependency"), "300": running()})
    assert cancel(submitted) == Cancellation(jobs=("100", "200", "201"), bundles=2)
    assert told == [["scancel", "--quiet", "100", "200", "201"]]


def test_workers_are_stopped_although_slurm_is_silent(submitted: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(command: list[str]) -> str:
        assert submitted.stop.exists()  # it was written first
        raise SlurmError("scancel: no controller")

    monkeypatch.setattr(slurm, "run", refuse)
    tell_queue(monkeypatch, {"100_0": running()}, error="squeue: no controller")
    assert cancel(submitted).error == "scancel: no controller"
    assert submitted.stop.exists()


def test_a_scan_on_this_machine_is_stopped(tmp_path: Path, told: list[list[str]]) -> None:
    folder = write_scan(tmp_path / "s")
    with hold(folder, "nnscan launch s"):
        done = cancel(folder)
    assert done.held_by.startswith("nnscan launch s, process ")
    assert (done.jobs, told, folder.stop.exists()) == ((), [], True)


def test_a_scan_whose_launch_is_gone_but_not_its_workers_is_stopped(tmp_path: Path) -> None:
    folder = write_scan(tmp_path / "s")
    Writer(folder, "l-0", PLACE)
    assert cancel(folder) == Cancellation()
    assert folder.stop.exists()


def test_where_nothing_runs_nothing_is_written(
    submitted: ScanFolder, told: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_queue(monkeypatch, {})
    assert cancel(submitted) == Cancellation(anything=False)
    assert not submitted.stop.exists()
    assert told == []


# ---- some of it ----


def test_a_family_is_passed_over_and_queued_bundles_of_it_alone_are_ended(
    submitted: ScanFolder, told: list[list[str]]
) -> None:
    done = cancel(submitted, families=["MLP"])
    assert done == Cancellation(families=("MLP",), jobs=("100_1", "100_2"), bundles=2)
    assert told == [["scancel", "--quiet", "100_1", "100_2"]]
    assert read_cancelled(submitted) == Cancelled(frozenset(["MLP"]))
    assert not submitted.stop.exists()


def test_a_queued_bundle_is_ended_when_its_last_trial_is_cancelled_or_has_a_result(
    submitted: ScanFolder, told: list[list[str]]
) -> None:
    assert cancel(submitted, trials=[KEYS[6], KEYS[13]]).jobs == ()
    write_bundle(submitted, "l-0", [(GRID[2], 1, 0.5), (GRID[2], 2, 0.5)])  # the trials 7 and 8
    done = cancel(submitted, trials=[key[:20] for key in KEYS[9:12]])
    assert (done.trials, done.jobs) == (tuple(KEYS[9:12]), ("100_1",))
    assert told == [["scancel", "--quiet", "100_1"]]
    assert read_cancelled(submitted) == Cancelled(trials=frozenset([KEYS[6], KEYS[13], *KEYS[9:12]]))


def test_a_bundle_that_was_just_submitted_is_ended_too(
    submitted: ScanFolder, told: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_queue(monkeypatch, {"100_0": running()}, asked=5.0)
    assert cancel(submitted, families=["MLP"]).jobs == ("100_1", "100_2")


def test_a_trial_with_a_result_stays(submitted: ScanFolder, told: list[list[str]]) -> None:
    write_bundle(submitted, "l-0", [(GRID[0], 0, 0.5)])
    assert cancel(submitted, trials=[KEYS[0]]) == Cancellation(ended=(KEYS[0],))
    assert not submitted.cancelled.exists()


def test_a_trial_whose_worker_died_is_tried_again_and_so_can_be_cancelled(
    submitted: ScanFolder, told: list[list[str]]
) -> None:
    writer = Writer(submitted, "l-0", PLACE)
    writer.start(start_of(GRID[0], 0))
    writer.end({"trial": KEYS[0], "status": "failed", "failure": "lost", "error": "died"})
    assert cancel(submitted, trials=[KEYS[0]]).trials == (KEYS[0],)


def test_whatever_is_wrong_is_told_at_once_with_the_nearest(submitted: ScanFolder) -> None:
    near = KEYS[3][:6]
    with pytest.raises(ScanError) as caught:
        cancel(submitted, families=["MLB"], trials=[f"{near}xyz", ""])
    said = str(caught.value)
    assert caught.value.exit_code == 2
    assert "--family: found 'MLB'. Did you mean 'MLP'? The scan has: MLP." in said
    assert f"--trial: found '{near}xyz'; no trial of the scan begins so. Did you mean {KEYS[3]}?" in said
    assert "--trial: found ''; 18 trials begin so" in said
    assert not submitted.cancelled.exists()
