"""A scan folder that cannot be written: a launch says so and starts nothing, and what is there can still be read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from asked import ask
from launched import Launched, launched_here, scan_of_a_function, tables

MOUNT = shutil.which("mount")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """Give the scan file of a scan that has been launched in part, its folder `scans` on a read-only mount."""
    scan = scan_of_a_function(tmp_path / "home")
    scans = scan.parent / "scans"
    launched_here(scan, scans, limit=4)
    if os.geteuid():
        _make_unwritable(scans)
        yield scan
        _make_writable(scans)
        return
    if not MOUNT or sys.platform != "linux":
        pytest.skip("root writes whatever the rights are, and cannot mount here")
    bound = subprocess.run([MOUNT, "--bind", str(scans), str(scans)], capture_output=True)
    if bound.returncode:
        pytest.skip("root writes whatever the rights are, and may not mount here")
    try:
        subprocess.run([MOUNT, "-o", "remount,ro,bind", str(scans)], check=True)
        yield scan
    finally:
        subprocess.run(["umount", str(scans)], check=True)


def _make_unwritable(folder: Path) -> None:
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        path.chmod(0o555)


def _make_writable(folder: Path) -> None:
    for path in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        path.chmod(0o755)


def test_a_launch_says_so_and_starts_nothing(read_only: Path) -> None:
    before = tables(read_only.parent / "scans/s")
    launch = Launched(read_only, "--cluster", "inline")
    assert launch.wait() == 1
    assert "scans/s" in launch.output
    assert "Traceback" not in launch.output
    assert tables(read_only.parent / "scans/s") == before


@pytest.mark.parametrize("command", ["summarize", "status"])
def test_what_is_there_can_be_read(read_only: Path, command: str) -> None:
    asked = ask(command, read_only)
    assert asked.returncode == 0, asked.stdout
    said = {"summarize": "4 completed", "status": "4 done"}
    assert said[command] in asked.stdout
