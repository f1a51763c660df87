"""Launches that retrain their winners; tests/launchers/slurm/test_launches.py runs the job that does it on Slurm."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scans import DIGITS, TESTS, function_scan, run

from nnscan.errors import ScanError
from nnscan.launch_options import LaunchOptions
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.results.folder import ScanFolder
from nnscan.scan import read
from nnscan.then_retrain import begin, launch_then_retrain


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)


def folder_of(path: Path, name: str) -> ScanFolder:
    return ScanFolder(path / "scans" / name)


def test_here_the_winners_are_retrained_after_the_launch(tmp_path: Path) -> None:
    scan = read(DIGITS.replace("epochs = 2", "epochs = 1"))
    outcome, retrained = launch_then_retrain(scan, folder_of(tmp_path, "digits"), LaunchOptions(cluster="inline"))
    assert outcome.progress.completed == 6
    assert retrained is not None and sorted(retrained.models) == ["Narrow", "Wide"]


def test_failed_trials_hold_nothing_up_but_their_own_configurations(tmp_path: Path) -> None:
    scan = function_scan("throw", [0.5, 2.0], folds=2)
    with pytest.raises(ScanError, match="takes no `fold`"):
        launch_then_retrain(
            function_scan("without_fold", [0.5]), folder_of(tmp_path, "x"), LaunchOptions(cluster="inline")
        )
    outcome, retrained = launch_then_retrain(scan, folder_of(tmp_path, scan.name), LaunchOptions(cluster="inline"))
    assert (outcome.progress.failed, outcome.progress.completed) == (2, 2)
    assert retrained is not None and retrained.choices[0].leader.hyperparameters == {"training.arguments.rate": 0.5}


def test_an_interrupted_launch_retrains_nothing(tmp_path: Path) -> None:
    scan = function_scan("interrupt", [0.5, 2.0], folder=str(tmp_path))
    outcome, retrained = launch_then_retrain(scan, folder_of(tmp_path, scan.name), LaunchOptions(cluster="inline"))
    assert outcome.interrupted
    assert retrained is None


@pytest.mark.parametrize("options", [{"limit": 1}, {"trial": "abc"}])
def test_a_part_of_a_scan_has_no_winner(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="--then-retrain"):
        launch_then_retrain(read(DIGITS), folder_of(tmp_path, "digits"), LaunchOptions(**options))


def test_a_job_begins_with_a_launch_of_the_retrainings_that_names_it(tmp_path: Path) -> None:
    folder = run(read(DIGITS), tmp_path).folder
    bundle = begin(folder, "77")
    assert bundle.start == 0 < bundle.stop
    jobs = slurm_jobs.read(folder, bundle.launch)
    assert jobs is not None and [(array.job, array.bundles) for array in jobs.arrays] == [("77", ((0, bundle.stop),))]


def test_a_job_retrains_nothing_while_trials_are_pending(tmp_path: Path) -> None:
    folder = run(read(DIGITS), tmp_path, limit=2).folder
    command = [sys.executable, "-m", "nnscan.then_retrain", str(folder.path), "77"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    assert done.returncode == 2
    assert "4 of 6 trials have no result yet" in done.stderr
    assert slurm_jobs.read_all(folder) == {}


def test_a_job_of_a_scan_that_is_retrained_has_nothing_to_do(tmp_path: Path) -> None:
    scan = read(DIGITS.replace("epochs = 2", "epochs = 1"))
    folder = folder_of(tmp_path, "digits")
    launch_then_retrain(scan, folder, LaunchOptions(cluster="inline"))
    command = [sys.executable, "-m", "nnscan.then_retrain", str(folder.path), "77"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TESTS.parent)
    assert json.loads(done.stdout.splitlines()[-1])["stop"] == 0
