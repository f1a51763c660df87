"""A disk that fills: the error says what and what to do, what finished is kept, and the next launch finishes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from dying import launch_while_full
from launched import Launched, differences, launched_here, scan_of_a_function, scan_of_networks, seeded, tables
from small_disk import Disk, small_disk

from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials

RAY, INLINE = ("--cluster", "local", "--workers", "2"), ("--cluster", "inline")
LAST_LOOKS = 20
"""Of a launch, after its last write."""

# ---- every write in turn ----


def check_full(scan: Path, moments: Sequence[int]) -> None:
    """Launch where the disk is full from each of `moments` on; then there is room again."""
    launched_here(scan, scan.parent / "undisturbed")
    undisturbed = tables(scan.parent / "undisturbed" / "s")
    for moment in moments:
        scans = scan.parent / f"scans-{moment}"
        ended = launch_while_full(moment, scan, scans)
        assert ended.code == (2 if ".cache" in ended.said else 1), f"moment {moment}: {ended}"
        assert "No space left on device. " in ended.said, f"moment {moment}: {ended}"
        assert "Make room" in ended.said, f"moment {moment}: {ended}"
        done = set(read_trials(ScanFolder(scans / "s"), ["trial"])["trial"].to_pylist())
        assert launched_here(scan, scans).exit_code == 0, f"moment {moment}"
        assert differences(tables(scans / "s"), undisturbed) == [], f"moment {moment}"
        launches = read_trials(ScanFolder(scans / "s"), ["trial", "launch"]).to_pylist()
        assert len({row["launch"] for row in launches if row["trial"] in done}) <= 1, "what had finished ran again"
        shutil.rmtree(scans)


def writes_of(scan: Path) -> range:
    """Return the moments of an undisturbed launch from which on there is still something to write."""
    seen = launch_while_full(1_000_000, scan, scan.parent / "counted").seen
    return range(1, seen - LAST_LOOKS)


def test_the_disk_is_full_from_some_moment_on(tmp_path: Path) -> None:
    scan = scan_of_a_function(tmp_path / "home", rates=2, epochs=2)
    check_full(scan, sorted(seeded("full").sample(writes_of(scan), 12)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_disk_is_full_from_any_moment_on(tmp_path: Path) -> None:
    scan = scan_of_a_function(tmp_path / "home", rates=2, epochs=2)
    check_full(scan, list(writes_of(scan)))


def test_the_disk_is_full_when_networks_leave_checkpoints(tmp_path: Path) -> None:
    scan = scan_of_networks(tmp_path / "home")
    check_full(scan, sorted(seeded("checkpoints").sample(writes_of(scan), 6)))


# ---- a file system that is really full ----

FILLING = """
import os


def trained(seed, fold, epochs, rate):
    if rate == 2.0:
        fill(os.environ["FILLER"])
    for epoch in range(1, epochs + 1):
        yield {"loss": rate / epoch + fold + seed % 97}


def fill(path):
    try:
        with open(path, "xb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
    except OSError:  # it is full; or there is no such path
        pass
"""


def scan_that_fills(home: Path) -> Path:
    """Write a scan of 8 trials; the third configuration fills the disk of the file FILLER, where there is none yet."""
    home.mkdir(exist_ok=True)
    (home / "filling.py").write_text(FILLING)
    scan = home / "scan.toml"
    scan.write_text("""
name = "s"
validation.folds = 2
[training]
function = "filling:trained"
metrics = ["loss"]
epochs = 200
[[grid]]
family = "A"
training.arguments.rate = [0.0, 1.0, 2.0, 3.0]
""")
    return scan


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    with small_disk(tmp_path) as disk:
        yield disk


def nnscan(scan: Path, *arguments: str, enter: Sequence[str] = (), filler: str = "") -> Launched:
    # Python itself leaves a torn file of bytecode where it may not grow, and cannot import the module afterwards.
    return Launched(scan, *arguments, enter=enter, FILLER=filler, PYTHONDONTWRITEBYTECODE="1")


@pytest.mark.parametrize("cluster", ["inline", "local"])
def test_a_disk_that_fills_while_a_scan_runs(tmp_path: Path, disk: Disk, cluster: str) -> None:
    scan = scan_that_fills(tmp_path / "home")
    asked = ("--scan-dir", str(disk.path), *(RAY if cluster == "local" else INLINE))
    launch = nnscan(scan, *asked, enter=disk.enter, filler=str(disk.path / "filler"))
    assert launch.wait() == 1, launch.output
    assert launch.left() == []
    assert "No space left on device" in launch.output
    assert "Make room on the disk" in launch.output
    assert "Traceback" not in launch.output
    assert launch.output.count("Error: ") == 1
    folder = disk.seen_here / "s"
    done = read_trials(ScanFolder(folder), ["trial", "status"]).to_pylist()
    assert {row["status"] for row in done} <= {"completed"}
    assert len(done) >= (4 if cluster == "inline" else 0)  # the first two configurations

    (disk.seen_here / "filler").unlink()
    launch = nnscan(scan, *asked, enter=disk.enter)
    assert launch.wait() == 0, launch.output
    assert launch.left() == []
    os.environ["FILLER"] = ""
    launched_here(scan, tmp_path / "undisturbed")
    assert differences(tables(folder), tables(tmp_path / "undisturbed" / "s")) == []


@pytest.mark.parametrize("blocks", [1, 4, 8, 24])
def test_files_that_may_not_grow(tmp_path: Path, blocks: int) -> None:
    """RLIMIT_FSIZE, in KiB; as a quota or `ulimit -f` does it."""
    scan = scan_that_fills(tmp_path / "home")
    limit = ("bash", "-c", f'ulimit -f {blocks} && exec "$@"', "bash")
    scans = tmp_path / "scans"
    launch = nnscan(scan, "--scan-dir", str(scans), "--cluster", "inline", enter=limit)
    assert launch.wait() == 1, launch.output
    assert "File too large" in launch.output
    assert "ulimit -f" in launch.output
    assert "Traceback" not in launch.output
    os.environ["FILLER"] = ""
    assert launched_here(scan, scans).exit_code == 0
    launched_here(scan, tmp_path / "undisturbed")
    assert differences(tables(scans / "s"), tables(tmp_path / "undisturbed" / "s")) == []
