"""Two launches of one scan at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from launched import Launched, differences, launched_here, scan_of_a_function, tables

from nnscan.errors import BusyError
from nnscan.results.folder import ScanFolder
from nnscan.results.lock import hold
from nnscan.results.store import read_trials, running

INLINE = ("--cluster", "inline")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return scan_of_a_function(tmp_path / "home", rates=4, epochs=4)


@pytest.fixture
def first(scan: Path) -> Iterator[Launched]:
    """A launch that is in its first trials."""
    launch = Launched(scan, *INLINE, PAUSE="0.2")
    folder = ScanFolder(scan.parent / "scans" / "s")
    assert launch.until(lambda: bool(running(folder)), 60), launch.output
    yield launch
    launch.end()


def test_the_second_says_who_runs_it_and_stops(scan: Path, first: Launched) -> None:
    second = Launched(scan, *INLINE)
    assert second.wait() == 2, second.output
    held = f"{scan.parent / 'scans' / 's'} is held by another launch: "
    assert second.output.startswith(f"Error: {held}"), second.output
    assert f"scan.toml {' '.join(INLINE)}, process {first.process.pid} of " in second.output
    assert "--wait" in second.output and "Traceback" not in second.output
    assert first.wait() == 0, first.output
    launched_here(scan, scan.parent / "undisturbed")
    assert differences(tables(scan.parent / "scans" / "s"), tables(scan.parent / "undisturbed" / "s")) == []


def test_the_second_waits_and_has_nothing_to_do(scan: Path, first: Launched) -> None:
    second = Launched(scan, *INLINE, "--wait")
    assert first.wait() == 0, first.output
    assert second.wait() == 0, second.output
    assert "nothing was left to do" in second.output
    folder = ScanFolder(scan.parent / "scans" / "s")
    assert len(set(read_trials(folder, ["launch"])["launch"].to_pylist())) == 1


def test_the_second_waits_and_goes_on_where_the_first_was_killed(scan: Path, first: Launched) -> None:
    second = Launched(scan, *INLINE, "--wait")
    second.until(lambda: second.find("launch") == [], 1.0)  # let it come to wait
    first.kill("launch")
    assert second.wait() == 0, second.output
    launched_here(scan, scan.parent / "undisturbed")
    assert differences(tables(scan.parent / "scans" / "s"), tables(scan.parent / "undisturbed" / "s")) == []


def test_who_waits_for_a_folder_that_is_removed_makes_it_anew(tmp_path: Path) -> None:
    """A launch that was refused removes the folder that it made: whoever waited must not hold a lock without a name."""
    folder = ScanFolder(tmp_path / "s")
    folder.path.mkdir()
    holds, go_on = Event(), Event()

    def wait() -> None:
        with hold(folder, "the second", wait=True):
            holds.set()
            go_on.wait(10)

    with hold(folder, "the first"):
        second = Thread(target=wait)
        second.start()
        assert not holds.wait(0.2)
        folder.path.rename(tmp_path / "removed")
    assert holds.wait(10)
    with pytest.raises(BusyError, match="the second"), hold(folder, "a third"):
        pass
    go_on.set()
    second.join()
    with hold(folder, "a fourth"):
        pass
