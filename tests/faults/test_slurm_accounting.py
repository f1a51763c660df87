"""A Slurm whose accounting is away, or was never there: launches and their state go on without it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scans import TESTS, function_scan, run

from nnscan.results.store import read_trials
from nnscan.scheduled import look

pytestmark = pytest.mark.usefixtures("slurm")

FAULT = os.environ.get("NNSCAN_TEST_SLURM_FAULT", "")
ASK_ACCOUNTING = {"sacct", "sacctmgr", "sreport", "sshare"}


@contextmanager
def without_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not FAULT:
        pytest.skip("NNSCAN_TEST_SLURM_FAULT names no command that takes the accounting away")
    subprocess.run([FAULT, "stop", "slurmdbd"], check=True, timeout=60)
    try:
        assert subprocess.run(["sacct"], capture_output=True, check=False).returncode != 0
        yield
    finally:
        subprocess.run([FAULT, "restart", "slurmdbd"], check=True, timeout=60)


@contextmanager
def without_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    commands = tmp_path / "bin"
    commands.mkdir()
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):  # jobs inherit the path: they need all the others
        for found in Path(folder).glob("*"):
            if found.name not in ASK_ACCOUNTING:
                (commands / found.name).unlink(missing_ok=True)
                (commands / found.name).symlink_to(found)
    monkeypatch.setenv("PATH", str(commands))
    assert shutil.which("sbatch")
    assert not any(map(shutil.which, ASK_ACCOUNTING))
    yield


@pytest.mark.parametrize("lacking", [without_database, without_commands])
def test_a_launch_needs_no_accounting(lacking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)
    scan = function_scan("learn", [0.5, 2.0])
    with lacking(tmp_path, monkeypatch):
        outcome = run(scan, tmp_path, cluster="slurm", workers=2, wait=True)
        assert (outcome.exit_code, outcome.error, outcome.progress.completed) == (0, "", 4)
        state = look(outcome.folder)
        assert (state.error, state.gave_up) == ("", {})
        again = run(scan, tmp_path, cluster="slurm", workers=2)
        assert (again.launched, again.submitted) == (0, None)
    assert len(read_trials(outcome.folder)) == 4
