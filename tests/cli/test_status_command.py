from __future__ import annotations

import re
from pathlib import Path

import pytest
from commanding import Command

STATUS = """\
scans/small: 2 of 2 trials have a result
  2 done, 0 running, 0 pending
"""


def test_status_of_the_scan_launched_last(nnscan: Command, launched: Path) -> None:
    result = nnscan("status")
    assert result.exit_code == 0
    assert result.stdout.startswith(STATUS)
    assert re.fullmatch(r"  MLP +2 of 2  best val_accuracy 0\.\d{4}  [0-9a-f]{8}", result.stdout.splitlines()[2])
    assert result.stderr == "The scan launched last: scans/small\n"


@pytest.mark.parametrize("scan", ["small", "scans/small", "small.toml"], ids=["name", "folder", "scan file"])
def test_a_scan_may_be_named_in_three_ways(nnscan: Command, launched: Path, scan: str) -> None:
    result = nnscan("status", scan)
    assert (result.stdout[: len(STATUS)], result.stderr) == (STATUS, "")


def test_trials_that_a_launch_left_are_pending(nnscan: Command, launched: Path) -> None:
    nnscan("launch", "small.toml", "--cluster", "inline", "--set", "training.seed=9", "--limit", "1")
    assert "  1 done, 0 running, 1 pending\n" in nnscan("status").stdout


def test_another_folder_of_scans(nnscan: Command, launched: Path) -> None:
    (launched / "scans").rename(launched / "archive")
    assert nnscan("status").exit_code == 2
    assert nnscan("status", "--scan-dir", "archive").stdout.startswith("archive/small: 2 of 2")


def test_an_unknown_scan_names_the_nearest(nnscan: Command, launched: Path) -> None:
    result = nnscan("status", "smal")
    assert result.exit_code == 2
    assert "no scan 'smal'. Did you mean 'small'?" in result.stderr


def test_without_any_scan_it_says_how_to_start_one(nnscan: Command, empty: Path) -> None:
    result = nnscan("status")
    assert result.exit_code == 2
    assert "nnscan launch" in result.stderr
