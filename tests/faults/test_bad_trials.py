"""Trials that go wrong: each is a row, told once, with the command that reruns it alone; and that command works."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from launched import launched_here, said, tables

from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials

TRAINING = """
import math
import os
import resource


def trained(fold, what):
    yield {"loss": 2.0}
    if what == "nan":
        yield {"loss": math.nan}
    if not os.path.exists("mended"):
        if what == "throws":
            raise ValueError("the model cannot be built\\nand more lines")
        if what == "out of memory":
            resource.setrlimit(resource.RLIMIT_AS, (2**34, resource.RLIM_INFINITY))
            try:
                bytearray(2**50)
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if what == "out of torch's memory":
            import torch

            torch.empty(2**50)
    yield {"loss": 1.0}
"""


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    (home / "bad.py").write_text(TRAINING)
    (home / "scan.toml").write_text("""
name = "s"
validation.folds = 2
[training]
function = "bad:trained"
metrics = ["loss"]
epochs = 2
[[grid]]
family = "A"
training.arguments.what = ["fine", "nan", "throws", "out of memory", "out of torch's memory"]
""")
    return home / "scan.toml"


def test_bad_trials_are_told_and_rerun_alone_by_the_command_that_is_told(scan: Path) -> None:
    home = scan.parent
    code, text = said("launch", "scan.toml", "--cluster", "inline", home=home)
    assert code == 1, text
    rows = read_trials(ScanFolder(home / "scans" / "s")).to_pylist()
    found = {(row["training.arguments.what"], row["status"], row["failure"], row["attempt"]) for row in rows}
    assert found == {
        ("fine", "completed", "", 1),
        ("nan", "diverged", "", 1),
        ("throws", "failed", "config", 1),
        ("out of memory", "failed", "out of memory", 2),
        ("out of torch's memory", "failed", "out of memory", 2),
    }, "one that ran out of memory is tried once more, one that diverged or throws is not"
    assert text.count("ValueError: the model cannot be built\n") >= 1
    assert text.count("    Traceback (most recent call last):") <= 3, "each of the first failures, once"
    assert "2 completed, 2 diverged, 6 failed" in text

    commands = [line.partition("Run it alone: ")[2] for line in text.splitlines() if "Run it alone: " in line]
    assert len(commands) == 3
    (home / "mended").touch()
    for number, command in enumerate(commands):
        program, *arguments = shlex.split(command)
        assert program == "nnscan"
        code, text = said(*arguments, home=home)
        assert code == 0, text
        after = read_trials(ScanFolder(home / "scans" / "s"), ["status"])["status"].to_pylist()
        assert after.count("failed") == 5 - number, f"{command} reruns that trial alone"


def test_the_summary_names_causes_and_the_next_launch_leaves_failures_alone(scan: Path) -> None:
    home = scan.parent
    assert launched_here(scan, home / "scans").exit_code == 1
    before = tables(home / "scans" / "s")
    code, text = said("summarize", "scans/s", home=home)
    assert code == 0
    for word in ("diverged", "ValueError: the model cannot be built", "MemoryError", "can't allocate memory"):
        assert word in text, text
    assert launched_here(scan, home / "scans").launched == 0
    assert tables(home / "scans" / "s") == before
    (home / "mended").touch()
    again = launched_here(scan, home / "scans", retry_failed=True)
    assert (again.launched, again.progress.failed, again.progress.diverged) == (6, 0, 2)
