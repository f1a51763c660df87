"""Files of a scan folder that are damaged: told with what to do, and nothing that is sound is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from asked import ask
from launched import Launched, differences, launched_here, scan_of_a_function, scan_of_networks, tables

from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials

INLINE = ("--cluster", "inline")


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flipped(content: bytes) -> bytes:
    """Damage every hundredth byte of the data, which stand before the footer."""
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    return bytes(byte ^ 0xFF if at % 100 == 99 and at < footer else byte for at, byte in enumerate(content))


def emptied(_: bytes) -> bytes:
    return b""


def damage(path: Path, how: Callable[[bytes], bytes]) -> None:
    path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize("how", [truncated, flipped, emptied])
def test_a_corrupt_part_is_named_and_its_trials_run_again(tmp_path: Path, how: Callable[[bytes], bytes]) -> None:
    scan = scan_of_a_function(tmp_path / "home")
    launched_here(scan, scan.parent / "scans", limit=6)
    (first,) = (scan.parent / "scans/s/trials").glob("*.parquet")
    launched_here(scan, tmp_path / "undisturbed")
    sound = first.read_bytes()
    damage(first, how)
    launch, asked = Launched(scan, *INLINE), ask("summarize", scan)
    for code, output in ((launch.wait(), launch.output), (asked.returncode, asked.stdout)):
        assert code == 1
        assert str(first.name) in output
        assert "Traceback" not in output
    first.write_bytes(sound)
    launched_here(scan, scan.parent / "scans")  # 4 trials more, in a part of their own or with the others
    for part in (scan.parent / "scans/s/trials").glob("*.parquet"):
        damage(part, how)
        part.rename(part.with_suffix(".parquet.corrupt"))
    outcome = launched_here(scan, scan.parent / "scans")
    assert outcome.launched == 10
    assert differences(tables(scan.parent / "scans/s"), tables(tmp_path / "undisturbed/s")) == []


@pytest.mark.parametrize("name", ["plan.parquet", "scan.toml", "lock"])
def test_files_that_a_launch_writes_are_written_anew(tmp_path: Path, name: str) -> None:
    scan = scan_of_a_function(tmp_path / "home")
    launched_here(scan, scan.parent / "scans")
    before = tables(scan.parent / "scans/s")
    (scan.parent / "scans/s" / name).write_bytes(b"\x00garbage\xff")
    assert launched_here(scan, scan.parent / "scans").exit_code == 0
    assert tables(scan.parent / "scans/s") == before


def test_what_an_older_launch_asked_for_may_be_damaged(tmp_path: Path) -> None:
    scan = scan_of_a_function(tmp_path / "home")
    launched_here(scan, scan.parent / "scans", limit=3)
    (asked,) = (scan.parent / "scans/s/launches").glob("*/launch.json")
    asked.write_bytes(b"{")
    again = Launched(scan, *INLINE)
    assert again.wait() == 1
    assert str(asked) in again.output
    assert "Traceback" not in again.output
    asked.unlink()
    assert launched_here(scan, scan.parent / "scans").exit_code == 0


def test_a_corrupt_checkpoint_is_passed_over(tmp_path: Path) -> None:
    scan = scan_of_networks(tmp_path / "home", epochs=40)
    launched_here(scan, tmp_path / "undisturbed")
    folder = ScanFolder(scan.parent / "scans/s")
    launch = Launched(scan, *INLINE)
    assert launch.until(lambda: bool(list(folder.checkpoints.glob("*.pt"))), 60)
    launch.kill("launch")
    launch.end()
    for file in folder.checkpoints.glob("*.pt"):
        damage(file, truncated)
    again = Launched(scan, *INLINE)
    assert again.wait() == 0, again.output
    assert differences(tables(folder.path), tables(tmp_path / "undisturbed/s")) == []


def test_damaged_decoded_data_are_decoded_again(tmp_path: Path) -> None:
    scan = scan_of_networks(tmp_path / "home")
    launched_here(scan, scan.parent / "scans", limit=2)
    for array in (scan.parent / "scans/.cache").glob("*/images.npy"):
        damage(array, truncated)
    again = Launched(scan, *INLINE)
    assert again.wait() == 0, again.output
    assert len(read_trials(ScanFolder(scan.parent / "scans/s"))) == 8
