"""The supervisor of a job, with commands in Slurm's place: how it goes on after what they did."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from scans import TESTS, function_scan
from slurm_bench import ROOT, SUPERVISE, wait_until

from nnscan import launch_folder
from nnscan.bundles import Bundle
from nnscan.errors import LauncherError
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm.claim import Claim
from nnscan.launchers.slurm.own_job import OwnJob
from nnscan.launchers.slurm.supervisor import check_versions, newest_steps
from nnscan.provenance import provenance
from nnscan.results.journal import Writer, journals

SRUN = f"""#!{sys.executable}
import os, subprocess, sys
place = next(place for place, word in enumerate(sys.argv) if place and not word.startswith("--"))
log = next(word.partition("=")[2] for word in sys.argv if word.startswith("--output=")).replace("%t", "0")
if os.path.exists(os.path.dirname(__file__) + "/idle"):
    sys.exit(0)
with open(log, "ab") as file:
    done = subprocess.run(sys.argv[place:], stdout=file, stderr=file, env={{**os.environ, "SLURM_PROCID": "0"}})
if done.returncode:
    print(f"srun: error: here: task 0: Exited with exit code {{done.returncode}}", file=sys.stderr)
"""
"""Runs rank 0 alone; where there is a file `idle` it does nothing, and tells of success as srun did of a dead node."""

SQUEUE = """#!/bin/bash
cat "$(dirname "$0")/time"
"""

SCONTROL = """#!/bin/bash
echo "$*" >> "$(dirname "$0")/asked"
[ -e "$(dirname "$0")/refusal" ] && { cat "$(dirname "$0")/refusal" >&2; exit 1; }
kill -TERM $PPID
"""
"""Queues a job again as Slurm does: its processes get SIGTERM."""


class FakeSlurm:
    """Commands on the PATH of the supervisor of a bench's bundle."""

    def __init__(self, bench: Bench, bin_: Path, time_left: str) -> None:
        self.bench = bench
        self.bin = bin_
        bin_.mkdir()
        for name, text in (("srun", SRUN), ("squeue", SQUEUE), ("scontrol", SCONTROL)):
            (bin_ / name).write_text(text)
            (bin_ / name).chmod(0o755)
        (bin_ / "time").write_text(time_left)

    def start(self, **variables: str) -> subprocess.Popen[str]:
        bundle = self.bench.bundle
        words = [str(self.bench.folder.path), bundle.launch, str(bundle.start), str(bundle.stop)]
        environment = {
            **os.environ,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "SLURM_ARRAY_JOB_ID": "7",
            "SLURM_ARRAY_TASK_ID": "1",
            **variables,
        }
        command = [sys.executable, "-c", SUPERVISE, *words]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, status: int = 0, **variables: str) -> str:
        """Run it to its end and return what it said."""
        with self.start(**variables) as supervisor:
            words = supervisor.communicate(timeout=100)[0]
        assert supervisor.returncode == status, words
        return words

    @property
    def asked(self) -> list[str]:
        """What scontrol was asked for."""
        path = self.bin / "asked"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def error(self) -> str | None:
        path = self.bench.folder.launches / self.bench.bundle.launch / "bundles" / "0.json"
        return json.loads(path.read_bytes())["error"] if path.exists() else None


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the commands for a scan; an hour is left."""
    monkeypatch.chdir(TESTS)

    def make(name: str, rates: list[float], time_left: str = "59:00 1:00:00", **arguments: Any) -> FakeSlurm:
        changes = {"trains_networks": False, "provenance": arguments.pop("provenance", {})}
        return FakeSlurm(
            Bench(function_scan(name, rates, **arguments), tmp_path, **changes), tmp_path / "bin", time_left
        )

    return make


def test_a_bundle_that_is_done_says_so_and_leaves_nothing_of_submitit(fake: Any) -> None:
    slurm = fake("learn", [0.5, 2.0])
    launch = slurm.bench.folder.launches / slurm.bench.bundle.launch
    (launch / "submitit").mkdir()
    for name in ("7_1_submitted.pkl", "7_1_0_log.out", "7_11_submitted.pkl", "7_2_submitted.pkl"):
        (launch / "submitit" / name).touch()
    slurm.run()
    assert slurm.bench.rows("status", "score") == [("completed", score) for score in (0.125, 0.140625, 0.5, 0.515625)]
    assert slurm.error == ""
    assert {path.name for path in (launch / "submitit").iterdir()} == {"7_11_submitted.pkl", "7_2_submitted.pkl"}
    assert [path.name for path in (launch / "bundles").iterdir()] == ["0.json"]
    assert list((launch / "meetings").iterdir()) == []
    assert slurm.asked == []


def test_a_worker_that_dies_in_a_trial_is_followed_by_another(fake: Any, tmp_path: Path) -> None:
    slurm = fake("die", [0.5, 2.0], folder=str(tmp_path), deaths=5)
    slurm.run()
    assert [row for (row,) in slurm.bench.rows("status")] == ["completed", "completed", "completed", "failed"]
    failure, attempt, error = slurm.bench.rows("failure", "attempt", "error")[3]
    assert (failure, attempt) == ("lost", 3)
    assert f"Exited with exit code -9. Its words are in {slurm.bench.folder.logs}" in error
    assert slurm.error == ""


def test_the_success_that_srun_tells_is_not_believed(fake: Any) -> None:
    slurm = fake("learn", [0.5])
    (slurm.bin / "idle").touch()
    assert "4 steps in a row brought no trial on: it ended without a word" in slurm.run(status=1)
    assert slurm.error.startswith("4 steps in a row brought no trial on")
    assert slurm.bench.rows("status") == []


def test_a_worker_that_dies_in_every_trial_is_given_up(fake: Any, tmp_path: Path) -> None:
    slurm = fake("die", [1.5 + number for number in range(8)], folder=str(tmp_path), deaths=100)
    keep_fold_1(slurm.bench)
    assert "15 steps in a row died without a result: Exited with exit code -9." in slurm.run(status=1)
    assert slurm.bench.rows("failure", "attempt") == [("lost", 3)] * 5
    assert slurm.error is not None


def keep_fold_1(bench: Bench) -> None:
    """Leave only those trials in the list of the launch, in which the function `die` dies."""
    home = bench.folder.launches / bench.bundle.launch
    launch = launch_folder.read(bench.folder, bench.bundle.launch)
    home.rename(home.with_name("all"))
    bench.trials = [trial for trial in bench.trials if trial.fold == 1]
    launch_folder.write(bench.folder, launch, bench.trials)
    bench.bundle = Bundle(launch.name, 0, len(bench.trials))


def test_what_an_earlier_life_left_open_was_no_fault_of_its_trial(fake: Any) -> None:
    slurm = fake("learn", [0.5], folds=1)
    with_dead_writer(slurm.bench)
    slurm.run(SLURM_RESTART_COUNT="1")
    assert slurm.bench.rows("status", "attempt") == [("completed", 1)]


def with_dead_writer(bench: Bench) -> None:
    Writer(bench.folder, bench.bundle.name, {}).start({"trial": bench.trials[0].key, "attempt": 1})


def test_a_step_without_end_is_queued_again_before_the_time_is_over(fake: Any, tmp_path: Path) -> None:
    slurm = fake("sleep", [0.5], "0:12 10:00", folds=1, seconds=60.0, folder=str(tmp_path))
    began = time.monotonic()
    with slurm.start() as supervisor:
        wait_until(lambda: slurm.asked, 30, "a requeue")
        assert time.monotonic() - began < 12
        os.kill(int((tmp_path / "notes").read_text().split()[0]), signal.SIGKILL)  # as Slurm does then
        supervisor.communicate(timeout=30)
    assert slurm.asked == ["requeue 7_1"]
    assert supervisor.returncode == 0
    assert slurm.error is None
    assert slurm.bench.rows("status") == []


def test_a_signal_that_the_time_is_nearly_over_queues_the_job_again(fake: Any, tmp_path: Path) -> None:
    slurm = fake("sleep", [0.5, 1.0, 1.5], folds=1, seconds=1.0, folder=str(tmp_path))
    with slurm.start() as supervisor:
        wait_until((tmp_path / "notes").exists, 30, "the first trial")
        os.kill(int((tmp_path / "notes").read_text().split()[0]), signal.SIGUSR2)
        supervisor.communicate(timeout=60)
    assert (supervisor.returncode, slurm.asked, slurm.error) == (0, ["requeue 7_1"], None)
    assert journals(slurm.bench.folder) == []
    slurm.run(SLURM_RESTART_COUNT="1")
    assert slurm.bench.rows("status", "attempt") == [("completed", 1)] * 3
    assert slurm.error == ""


def test_a_job_that_is_not_queued_again_says_so(fake: Any, tmp_path: Path) -> None:
    slurm = fake("sleep", [0.5, 1.0], folds=1, seconds=1.0, folder=str(tmp_path))
    (slurm.bin / "refusal").write_text("Requested operation is presently disabled for job 7\n")
    with slurm.start() as supervisor:
        wait_until((tmp_path / "notes").exists, 30, "the first trial")
        os.kill(int((tmp_path / "notes").read_text().split()[0]), signal.SIGUSR2)
        words = supervisor.communicate(timeout=60)[0]
    assert supervisor.returncode == 1
    assert "presently disabled for job 7. Launch again." in words
    assert slurm.error in words


def test_an_older_life_of_the_job_leaves_without_touching_anything(fake: Any) -> None:
    slurm = fake("learn", [0.5])
    claim = Claim(slurm.bench.folder, slurm.bench.bundle, OwnJob("7_1", 2))
    claim.make()
    slurm.run(SLURM_RESTART_COUNT="1")
    assert claim.holds()
    assert (slurm.bench.rows("status"), slurm.error) == ([], None)


def test_a_life_whose_bundle_was_taken_over_leaves_at_the_end_of_its_step(fake: Any, tmp_path: Path) -> None:
    slurm = fake("sleep", [0.5, 1.0], folds=1, seconds=1.0, folder=str(tmp_path))
    with slurm.start() as supervisor:
        wait_until((tmp_path / "notes").exists, 30, "the first trial")
        Claim(slurm.bench.folder, slurm.bench.bundle, OwnJob("7_1", 1)).make()
        os.kill(int((tmp_path / "notes").read_text().split()[0]), signal.SIGKILL)
        supervisor.communicate(timeout=30)
    assert (supervisor.returncode, slurm.error, slurm.asked) == (0, None, [])
    assert [journal.cause for journal in journals(slurm.bench.folder)] == [None]


def test_a_scan_that_was_stopped_has_come_to_its_end(fake: Any) -> None:
    slurm = fake("learn", [0.5])
    slurm.bench.folder.stop.write_text("enough")
    slurm.run()
    assert (slurm.bench.rows("status"), slurm.error) == ([], "")


def test_an_error_that_is_no_trials_fault_ends_the_bundle(fake: Any) -> None:
    slurm = fake("learn", [0.5], provenance={"torch": "0.1"})
    assert "torch" in slurm.run(status=1)
    assert "(launched with 0.1)" in slurm.error


def test_the_same_environment_is_good() -> None:
    check_versions(bench_launch(provenance=provenance()))
    with pytest.raises(LauncherError, match=r"launched with 2[.]7"):
        check_versions(bench_launch(provenance={"python": "2.7"}))


def bench_launch(**changes: Any) -> Launch:
    return Launch(name="l", scan="s", metric="val_loss", code="/code", data_root="/data", **changes)


def test_the_steps_of_a_trial_are_those_of_its_newest_checkpoint(fake: Any) -> None:
    folder = fake("learn", [0.5]).bench.folder
    assert newest_steps(folder, "ab") == -1
    folder.checkpoints.mkdir()
    for name in ("ab.w1.90.pt", "ab.w2.110.pt", ".ab.w2.200.pt.tmp", "abc.w1.300.pt", "ab.w1.pt"):
        (folder.checkpoints / name).touch()
    assert newest_steps(folder, "ab") == 110


def test_the_supervisor_is_light() -> None:
    heavy = "torch", "ray", "submitit", "sklearn", "torchvision", "pandas"
    script = (
        f"import sys, nnscan.launchers.slurm.supervisor; print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
