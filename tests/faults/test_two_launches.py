"""Two launches of one scan at once: the second says who runs the first, or waits for its end."""

from __future__ import annotations

from pathlib import Path

from launched import Launched, scan_of_a_function

INLINE = ("--cluster", "inline")


def test_the_second_launch_says_who_runs_the_first_and_stops(tmp_path: Path) -> None:
    scan = scan_of_a_function(tmp_path / "home", pause=0.2)
    first = Launched(scan, *INLINE)
    try:
        assert first.until(lambda: bool(list(scan.parent.glob("scans/s/journal/*"))), 30)
        second = Launched(scan, *INLINE)
        assert second.wait() == 2
        assert f"process {first.process.pid}" in second.output
        assert "--wait" in second.output
        assert first.wait() == 0, first.output
    finally:
        first.end()


def test_a_launch_that_waits_finds_nothing_left_to_do(tmp_path: Path) -> None:
    scan = scan_of_a_function(tmp_path / "home", pause=0.1)
    first = Launched(scan, *INLINE)
    try:
        assert first.until(lambda: bool(list(scan.parent.glob("scans/s/journal/*"))), 30)
        second = Launched(scan, *INLINE, "--wait")
        assert first.wait() == 0, first.output
        assert second.wait() == 0, second.output
        assert "nothing was left to do" in second.output
    finally:
        first.end()
