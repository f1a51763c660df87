"""`kill -9` at random moments: the next launch finishes the scan, and its tables are those of an undisturbed one."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from dying import launch_until
from launched import Launched, differences, launched_here, scan_of_a_function, scan_of_networks, seeded, tables

from nnscan.results.folder import ScanFolder
from nnscan.results.journal import journals, read_rows
from nnscan.results.store import read_trials

INLINE = ("--cluster", "inline")
FORKED = (*INLINE, "--workers", "2")
RAY = ("--cluster", "local", "--workers", "2")
VICTIMS = [("launch",), ("driver",), ("raylet",), ("gcs_server",), ("launch", "driver")]
FORKED_VICTIMS = [("launch",), ("nnscan-template",), ("launch", "nnscan-template")]


class Disturbed:
    """One scan that is launched again and again, and disturbed."""

    def __init__(self, scan: Path, *arguments: str) -> None:
        self.scan = scan
        self.arguments = arguments
        self.folder = scan.parent / "scans" / "s"
        launched_here(scan, scan.parent / "undisturbed")
        self.undisturbed = tables(scan.parent / "undisturbed" / "s")

    @contextmanager
    def launched(self, terminal: int | None = None, pause: str = "0.1") -> Iterator[Launched]:
        launch = Launched(self.scan, *self.arguments, terminal=terminal, PAUSE=pause)
        try:
            yield launch
        finally:
            launch.end()

    def finish(self) -> None:
        with self.launched(pause="0") as launch:
            assert launch.wait() == 0, launch.output
            assert launch.left() == []
        self.check()

    def finish_here(self) -> None:
        assert launched_here(self.scan, self.folder.parent).exit_code == 0
        self.check()

    def check(self) -> None:
        assert differences(tables(self.folder), self.undisturbed) == []
        assert journals(ScanFolder(self.folder)) == []

    def epochs_written(self) -> int:
        found = [journal.path for journal in journals(ScanFolder(self.folder))]
        rows = [row for path in found if path.exists() for row in read_rows(path)[0]]
        return sum(row["row"] == "epoch" for row in rows)


def kill_at(launch: Launched, moment: float, victims: tuple[str, ...]) -> None:
    """Kill `victims` `moment` seconds after the start, or as soon as they are all there; then all must end."""
    launch.until(lambda: time.monotonic() - launch.began > moment, moment + 1)
    if not all(launch.find(victim) for victim in victims):
        launch.until(lambda: all(launch.find(victim) for victim in victims), 60)
        time.sleep(0.3)  # of a daemon that has not opened its log Ray itself notices the death, after 30 s
    hit = launch.kill(*victims)
    print(f"{time.monotonic() - launch.began:.2f} s: killed {', '.join(hit) or 'nothing: it had ended'}")
    if not hit:
        assert launch.wait() == 0, launch.output
        return
    killed = time.monotonic()
    code = launch.wait(5)
    expected = {-9} if "launch" in hit else {1, 0}  # 0 where all was done and Ray was being ended
    assert code in expected, launch.output
    assert launch.left(max(0.0, 5 - (time.monotonic() - killed))) == [], f"left of {hit}"
    assert "Traceback" not in launch.output


def launch_and_kill(scan: Disturbed, chance: Random, victims: tuple[str, ...], longest: float) -> None:
    with scan.launched() as launch:
        moment = chance.uniform(0, longest)
        if victims == ("worker",):  # of which nothing ends; so the launch is killed a little later
            launch.until(lambda: time.monotonic() - launch.began > moment, moment + 1)
            launch.until(lambda: bool(launch.kill("worker")), 60)
            print(f"{time.monotonic() - launch.began:.2f} s: killed worker")
            moment, victims = time.monotonic() - launch.began + chance.uniform(0, 8), ("launch",)
        kill_at(launch, moment, victims)


@pytest.fixture
def slow_function(tmp_path: Path) -> Disturbed:
    return Disturbed(scan_of_a_function(tmp_path / "home", rates=10, epochs=3))


# ---- real processes, on Ray and forked ----


def test_when_the_head_of_ray_dies_nothing_is_left_and_the_next_launch_finishes(slow_function: Disturbed) -> None:
    chance = seeded("heads")
    slow_function.arguments = RAY
    launch_and_kill(slow_function, chance, chance.choice(VICTIMS), 8.0)
    slow_function.finish()


@pytest.mark.parametrize("victims", FORKED_VICTIMS, ids=["launch", "template", "both"])
def test_when_the_head_of_forked_workers_dies_nothing_is_left(
    slow_function: Disturbed, victims: tuple[str, ...]
) -> None:
    slow_function.arguments = FORKED
    launch_and_kill(slow_function, seeded("heads of forks"), victims, 4.0)
    slow_function.finish_here()


@pytest.mark.parametrize("arguments", [FORKED, RAY], ids=["forked", "local"])
def test_when_a_worker_dies_the_launch_goes_on(slow_function: Disturbed, arguments: tuple[str, ...]) -> None:
    slow_function.arguments = arguments
    with slow_function.launched() as launch:
        assert launch.until(lambda: slow_function.epochs_written() > 3, 60), launch.output
        assert launch.kill("worker") == ["worker"]
        assert launch.wait() == 0, launch.output
        assert launch.left() == []
    slow_function.check()
    attempts = read_trials(ScanFolder(slow_function.folder), ["attempt"])["attempt"].to_pylist()
    assert sorted(attempts)[:-1] == [1] * 19, "only the trial that its worker was in is tried again"
    assert attempts.count(2) <= 1  # 0 where the worker was hit between two trials


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("arguments", "victims"), [(FORKED, FORKED_VICTIMS), (RAY, VICTIMS)], ids=["forked", "local"])
def test_twenty_kills_of_anything_at_any_moment(
    tmp_path: Path, arguments: tuple[str, ...], victims: list[tuple[str, ...]]
) -> None:
    scan = Disturbed(scan_of_a_function(tmp_path / "home", rates=120, epochs=3), *arguments)
    chance = seeded("anything")
    for _ in range(20):
        launch_and_kill(scan, chance, chance.choice([*victims, ("worker",)]), 14.0)
    scan.arguments = (*arguments, "--retry-failed")  # a trial may have been hit three times
    scan.finish()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_of_networks_that_leave_checkpoints(tmp_path: Path) -> None:
    scan = Disturbed(scan_of_networks(tmp_path / "home", epochs=400), *RAY)
    chance = seeded("networks")
    for _ in range(8):
        launch_and_kill(scan, chance, chance.choice([*VICTIMS, ("worker",)]), 25.0)
    scan.arguments = (*RAY, "--retry-failed")
    scan.finish()


# ---- every moment of a launch, in this machine's plainest form ----


def check_moments(scan: Disturbed, moments: list[int]) -> None:
    """Kill a launch of a new folder at each of `moments`; the next one finishes."""
    for moment in moments:
        scans = scan.scan.parent / f"scans-{moment}"
        assert not launch_until(moment, scan.scan, scans).seen, f"there is no moment {moment}"
        assert launched_here(scan.scan, scans).exit_code == 0, f"moment {moment}"
        assert differences(tables(scans / "s"), scan.undisturbed) == [], f"moment {moment}"
        shutil.rmtree(scans)


def moments_of(scan: Disturbed) -> range:
    """Return the moments of an undisturbed launch; data that must be decoded are there afterwards."""
    seen = launch_until(-1, scan.scan, scan.scan.parent / "counted").seen
    return range(1, seen + 1)


def test_a_launch_that_died_at_some_moments_is_finished_by_the_next(tmp_path: Path) -> None:
    scan = Disturbed(scan_of_a_function(tmp_path / "home", rates=2, epochs=2))
    check_moments(scan, sorted(seeded("moments").sample(moments_of(scan), 12)))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_launch_that_died_at_any_moment_is_finished_by_the_next(tmp_path: Path) -> None:
    scan = Disturbed(scan_of_a_function(tmp_path / "home", rates=2, epochs=2))
    check_moments(scan, list(moments_of(scan)))


def test_networks_that_died_at_some_moments_go_on_from_their_checkpoints(tmp_path: Path) -> None:
    scan = Disturbed(scan_of_networks(tmp_path / "home"))
    check_moments(scan, sorted(seeded("networks").sample(moments_of(scan), 8)))


@pytest.mark.parametrize("networks", [False, True], ids=["function", "networks"])
def test_a_scan_whose_launches_die_again_and_again_is_finished(tmp_path: Path, networks: bool) -> None:
    home = tmp_path / "home"
    scan = Disturbed(scan_of_networks(home) if networks else scan_of_a_function(home))
    chance = seeded("again")
    longest = len(moments_of(scan))
    for _ in range(8 if networks else 20):
        if launch_until(chance.randint(1, longest), scan.scan, scan.folder.parent).seen:
            break
    scan.finish_here()


# ---- signals that ask ----


@pytest.mark.parametrize(
    "arguments", [INLINE, FORKED, pytest.param(RAY, marks=pytest.mark.slow)], ids=["inline", "forked", "local"]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_launch_that_is_asked_to_end_keeps_what_finished(
    tmp_path: Path, number: int, arguments: tuple[str, ...]
) -> None:
    scan = Disturbed(scan_of_a_function(tmp_path / "home", rates=10), *arguments)
    with scan.launched() as launch:
        assert launch.until(lambda: scan.epochs_written() > 5, 60), launch.output
        launch.process.send_signal(number)
        assert launch.wait(5) == 130, launch.output
        assert launch.left() == []
        assert "Interrupted; what finished is kept. Go on with: " in launch.output
        assert "Traceback" not in launch.output
    done = read_trials(ScanFolder(scan.folder), ["status"])["status"].to_pylist()
    assert set(done) == {"completed"}
    assert 0 < len(done) < 20
    scan.finish_here()


@pytest.mark.parametrize("arguments", [INLINE, FORKED, RAY], ids=["inline", "forked", "local"])
def test_a_launch_ends_with_its_terminal(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    scan = Disturbed(scan_of_a_function(tmp_path / "home", rates=10), *arguments)
    terminal, other_end = os.openpty()
    with scan.launched(other_end) as launch:
        os.close(other_end)
        assert launch.until(lambda: scan.epochs_written() > 5, 60)
        os.close(terminal)
        launch.wait(5)
        assert launch.left() == []
    scan.finish_here()
