"""The template itself: what it must not have when it forks, and what a fork of it can do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from scans import TESTS, function_scan, rows_of, run

from nnscan.bundles import Bundles
from nnscan.errors import LauncherError, ScanError
from nnscan.launch_folder import Launch
from nnscan.launchers.forked.launcher import ForkedLauncher, ForkedOptions, _environment
from nnscan.logs import logs
from nnscan.running import check_resources

STATE = """
import json, os, sys
from nnscan.launchers.forked.template import warm_up
warm_up(trains_networks={networks}, on_gpus=False)
print(json.dumps([len(os.listdir("/proc/self/task")), sorted({{"torch", "ray", "nnscan.worker"}} & set(sys.modules))]))
"""


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)
    monkeypatch.setenv("PYTHONPATH", str(TESTS.parent))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


@pytest.mark.parametrize(
    ("networks", "modules"),
    [(True, ["nnscan.worker", "torch"]), (False, ["nnscan.worker"])],
    ids=["networks", "functions"],
)
def test_it_has_one_thread_and_no_more_modules_than_training_needs(networks: bool, modules: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STATE.format(networks=networks)],
        env=_environment(ForkedOptions(trains_networks=networks)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [1, modules]


def test_the_deaths_of_a_workers_trial_are_told_and_its_words_are_found(tmp_path: Path) -> None:
    (tmp_path / "died").mkdir()
    scan = function_scan("die", [2.0], folder=str(tmp_path / "died"), deaths=3)
    outcome = run(scan, tmp_path, workers=2)
    assert rows_of(outcome, "fold", "status", "failure", "attempt")[1] == (1, "failed", "lost", 3)
    ((error, host, pid),) = [row for row in rows_of(outcome, "error", "host", "pid") if row[0]]
    assert error == (
        f"the worker on {host} died in attempt 3 at it: it was killed (SIGKILL), which is what the kernel does where"
        " memory runs out"
    )
    assert f"{host}-{pid}.log" in {log.path.name for log in logs(outcome.folder)}
    said = (outcome.folder.logs / "template.log").read_text()
    assert said.count("died in bundle") == 3


def test_a_template_that_dies_ends_the_launch_and_its_workers(tmp_path: Path) -> None:
    launcher = ForkedLauncher(tmp_path, TESTS, ForkedOptions(trains_networks=False))
    submission = launcher.submit(Bundles("never", 4, 2))  # workers wait for a launch that is never written
    template = psutil.Process(launcher._template.pid)
    deadline = time.monotonic() + 60
    while len(workers := template.children()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(workers) == 2
    template.kill()
    with pytest.raises(LauncherError, match=r"died \(exit status -9\)"):
        list(submission)
    assert psutil.wait_procs(workers, timeout=5)[1] == [], "they end with it"
    submission.cancel()


def test_the_environment_leaves_a_users_word_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _environment(ForkedOptions(threads=3))["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert _environment(ForkedOptions(threads=3))["OMP_NUM_THREADS"] == "7"


def test_networks_without_gpus_see_none_and_a_users_function_sees_what_it_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert _environment(ForkedOptions())["CUDA_VISIBLE_DEVICES"] == ""
    assert _environment(ForkedOptions(gpus=("1",), gpus_per_trial=1.0))["CUDA_VISIBLE_DEVICES"] == "1"
    assert _environment(ForkedOptions(trains_networks=False))["CUDA_VISIBLE_DEVICES"] == "1"


def launch_of(**changes: float) -> Launch:
    return Launch(name="l", scan="s", metric="m", code=".", data_root=".", cluster="inline", **changes)  # type: ignore[arg-type]


def test_more_workers_than_gpus_are_refused_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnscan.running.visible_gpus", lambda: 2)
    check_resources(launch_of(gpus_per_trial=0.5), 4)
    with pytest.raises(ScanError, match=r"found 3; of trials that take 1 GPUs each 2 at once fit.*--workers 2"):
        check_resources(launch_of(gpus_per_trial=1.0), 3)


def test_where_a_fork_of_torch_is_not_sound_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    check_resources(launch_of(), 1)
    with pytest.raises(ScanError, match=r"Use --cluster local"):
        check_resources(launch_of(), 2)
