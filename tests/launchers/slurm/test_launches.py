"""Launches on a real Slurm: what is left alone, filled in, chained, and run although it was edited meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scans import DIGITS, TESTS, function_scan, rows_of

from nnscan.errors import ScanError
from nnscan.launch_options import LaunchOptions, Outcome
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.launcher import cancel_jobs
from nnscan.launching import launch
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.retraining import RetrainOptions, retrain_best
from nnscan.scan import Scan, read
from nnscan.then_retrain import launch_then_retrain

pytestmark = pytest.mark.usefixtures("slurm")

HELD = "sbatch = {hold = true}\n"
"""A profile whose jobs wait until they are released."""

PATIENCE_SECONDS = 120.0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[ScanFolder]:
    """Give a scan folder that nodes see; its jobs are gone afterwards."""
    folder = ScanFolder(tmp_path / "scans" / "s")
    yield folder
    cancel_jobs([number for jobs in slurm_jobs.read_all(folder).values() for number in jobs.numbers])


def start(scan: Scan, folder: ScanFolder, **options: Any) -> Outcome:
    return launch(scan, folder, LaunchOptions(**{"cluster": "slurm", "workers": 2, **options}))


def held(folder: ScanFolder) -> str:
    """Write a profile whose jobs wait, and return its path."""
    path = folder.path.parent.parent / "held.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HELD)
    return str(path)


def numbers(folder: ScanFolder) -> list[str]:
    return [number for jobs in slurm_jobs.read_all(folder).values() for number in jobs.numbers]


def scontrol(*arguments: str) -> None:
    subprocess.run(["scontrol", *arguments], check=True, timeout=30)


def until(reached: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.2)


def test_a_launch_leaves_alone_what_waits_and_adds_what_is_new(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TESTS)
    first = start(function_scan("learn", [0.5, 2.0]), folder, profile=held(folder))
    assert (first.exit_code, first.launched, first.progress.pending) == (0, 4, 4)
    assert first.submitted and [(job.bundles, job.trials) for job in first.submitted.jobs] == [(2, 4)]
    more = start(function_scan("learn", [0.5, 2.0, 4.0]), folder, profile=held(folder))
    assert (more.launched, more.elsewhere) == (2, 4)
    again = start(function_scan("learn", [0.5, 2.0, 4.0]), folder)
    assert (again.launched, again.elsewhere, again.submitted) == (0, 6, None)

    task = f"{first.submitted.jobs[0].job}_1"
    cancel_jobs([task])
    filled = start(function_scan("learn", [0.5, 2.0, 4.0]), folder)
    assert (filled.launched, filled.elsewhere) == (2, 4)
    for number in numbers(folder)[:2]:
        scontrol("release", number)
    ended = start(function_scan("learn", [0.5, 2.0, 4.0]), folder, wait=True)
    assert (ended.exit_code, ended.error, ended.launched, ended.progress.completed) == (0, "", 0, 6)
    assert len(store.read_trials(folder)) == 6
    # Of each launch its list and its jobs are left; what submitit wrote goes when a bundle ends, or a launch finds it.
    start(function_scan("learn", [0.5, 2.0, 4.0]), folder)
    assert [path for home in folder.launches.iterdir() for path in (home / "submitit").glob("*.pkl")] == []


def test_jobs_run_the_code_that_was_submitted(
    folder: ScanFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.syspath_prepend(str(home))
    module = home / "edited_later.py"
    module.write_text("def train(*, rate: float):\n    yield {'val_loss': rate}\n")
    scan = read(
        'name = "s"\n[training]\nfunction = "edited_later:train"\nmetrics = ["val_loss"]\nepochs = 1\n'
        '[[grid]]\nfamily = "A"\ntraining.arguments.rate = [0.25, 0.5]\n'
    )
    start(scan, folder, profile=held(folder))
    module.write_text("raise SystemExit('edited')\n")
    folder.scan_file.write_text("edited, too")
    for number in numbers(folder):
        scontrol("release", number)
    until(lambda: len(store.read_trials(folder)) == 2, "results")
    assert sorted(store.read_trials(folder)["score"].to_pylist()) == [0.25, 0.5]


def test_ctrl_c_ends_the_waiting_alone(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)

    def press() -> None:
        until(lambda: numbers(folder), "jobs")
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    outcome = start(function_scan("sleep", [0.5], folds=2, seconds=10.0, folder=""), folder, wait=True)
    thread.join()
    assert (outcome.exit_code, outcome.interrupted) == (130, True)
    until(lambda: len(store.read_trials(folder)) == 2, "results of the jobs that went on")


def test_winners_are_retrained_by_a_job_that_waits_for_the_others(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TESTS)
    scan = read(DIGITS.replace("epochs = 2", "epochs = 1"), axes=["Wide:model.width=16,32"])
    outcome, _ = launch_then_retrain(scan, folder, LaunchOptions(cluster="slurm", workers=2, wait=True))
    assert outcome.progress.completed == 8
    until(lambda: (folder.models / "Wide" / "model.json").exists(), "models")
    until(lambda: (folder.models / "Narrow" / "model.json").exists(), "models")
    kinds = rows_of(outcome, "kind", "status")
    assert kinds == [*[("retraining", "completed")] * 2, *[("trial", "completed")] * 8]
    options = LaunchOptions(cluster="slurm", wait=True)
    again = retrain_best(folder, RetrainOptions(), options)
    assert again.outcome.launched == 0
    longer = retrain_best(folder, RetrainOptions(epochs=3), options)
    assert (longer.outcome.launched, longer.exit_code, sorted(longer.models)) == (2, 0, ["Narrow", "Wide"])


def test_a_chained_job_retrains_nothing_while_trials_lack_a_result(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(TESTS)
    options = LaunchOptions(cluster="slurm", workers=2, profile=held(folder))
    outcome, _ = launch_then_retrain(function_scan("learn", [0.5, 2.0]), folder, options)
    assert outcome.submitted and outcome.submitted.retrain_job
    cancel_jobs([job.job for job in outcome.submitted.jobs])
    scontrol("release", outcome.submitted.retrain_job)
    until(lambda: "4 of 4 trials have no result" in words(folder), "the job's words")
    assert not folder.models.exists()


def words(folder: ScanFolder) -> str:
    return "".join(path.read_text(errors="replace") for path in folder.launches.glob("*/submitit/*.out"))


def test_nothing_is_left_of_a_launch_that_is_refused(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)
    profile = folder.path.parent.parent / "none.toml"
    profile.parent.mkdir(parents=True, exist_ok=True)
    profile.write_text('partition = "nowhere"\n')
    with pytest.raises(ScanError, match="nowhere"):
        start(function_scan("learn", [0.5]), folder, profile=str(profile))
    assert not folder.path.exists()
