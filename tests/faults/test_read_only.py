"""A scan folder that may not be written: a launch refuses clearly, status and summarize read on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import Launched, launched_here, said, scan_of_a_function
from small_disk import Disk, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path) as disk:
        yield disk


def test_a_read_only_file_system_is_not_launched_into_but_read(tmp_path: Path, disk: Disk) -> None:
    scan = scan_of_a_function(disk.home, rates=2, epochs=1)
    launched_here(scan, disk.seen_here)
    more = ("--grid", "training.arguments.rate=0.0,1.0,2.0")
    disk.run("mount", "-o", "remount,ro", str(disk.path))

    refused = Launched(scan, "--scan-dir", str(disk.path), *more, enter=disk.enter)
    assert refused.wait() == 1, refused.output
    assert f"cannot write in {disk.path / 's'}: Read-only file system. " in refused.output
    assert "or put the scan elsewhere (--scan-dir)" in refused.output
    assert "Traceback" not in refused.output
    assert refused.left() == []
    new = Launched(scan, "--scan-dir", str(disk.path / "new"), enter=disk.enter)
    assert new.wait() == 1
    assert f"cannot make {disk.path / 'new' / 's'}: Read-only file system. " in new.output

    code, text = said("status", str(disk.path / "s"), home=disk.home, enter=disk.enter)
    assert (code, "4 of 4 trials have a result" in text) == (0, True), text
    code, text = said("summarize", str(disk.path / "s"), home=disk.home, enter=disk.enter)
    assert (code, "A" in text, "Traceback" in text) == (0, True, False), text
    code, text = said(
        "launch", str(scan), "--scan-dir", str(disk.path), "--dry-run", *more, home=disk.home, enter=disk.enter
    )
    assert (code, "Traceback" in text) == (0, False), text

    disk.run("mount", "-o", "remount,rw", str(disk.path))
    again = Launched(scan, "--scan-dir", str(disk.path), "--cluster", "inline", *more, enter=disk.enter)
    assert again.wait() == 0, again.output


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_without_the_right_to_write(tmp_path: Path) -> None:
    scan = scan_of_a_function(tmp_path / "home", rates=2, epochs=1)
    launched_here(scan, tmp_path / "scans")
    folder = tmp_path / "scans" / "s"
    (folder / "lock").unlink()
    folder.chmod(0o555)
    try:
        refused = Launched(scan, "--scan-dir", str(tmp_path / "scans"))
        assert refused.wait() == 1
        assert f"cannot write in {folder}: Permission denied. " in refused.output
    finally:
        folder.chmod(0o755)
