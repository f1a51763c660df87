"""Several processes a trial: `kill -9` of any, and Ctrl-C; nothing is left, and the tables come out the same."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launched import FINDS_NNSCAN, Launched, differences, launched_here, scan_of_networks, seeded, tables

from nnscan.results.folder import ScanFolder
from nnscan.results.journal import journals, read_rows

INLINE = ("--cluster", "inline")
RAY = ("--cluster", "local", "--workers", "1")
PLACES = pytest.mark.parametrize("arguments", [INLINE, RAY], ids=["inline", "local"])


@pytest.fixture(scope="module", autouse=True)
def found_by_ranks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", FINDS_NNSCAN["PYTHONPATH"])
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("undisturbed")
    assert launched_here(scan_of_networks(home, epochs=8, processes=2), home / "scans").exit_code == 0
    return home / "scans" / "s"


class Scan:
    """A scan of networks that two processes train, under way."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.folder = home / "scans" / "s"
        self.launch = Launched(scan_of_networks(home, epochs=8, processes=2), *arguments)

    def __enter__(self) -> Scan:
        assert self.launch.until(lambda: self.epochs() > 12, 90), self.launch.output
        return self

    def __exit__(self, *_: object) -> None:
        self.launch.end()

    def epochs(self) -> int:
        """Return how many epochs stand in journals."""
        found = [journal.path for journal in journals(ScanFolder(self.folder))]
        return sum(row["row"] == "epoch" for path in found if path.exists() for row in read_rows(path)[0])


@PLACES
def test_a_rank_that_is_killed_costs_its_trial_an_attempt(
    tmp_path: Path, undisturbed: Path, arguments: tuple[str, ...]
) -> None:
    with Scan(tmp_path / "home", *arguments) as scan:
        assert scan.launch.kill("rank") == ["rank"]
        assert scan.launch.wait() == 0, scan.launch.output
        assert scan.launch.left() == []
    assert differences(tables(scan.folder), tables(undisturbed)) == []


@pytest.mark.parametrize(
    ("arguments", "victim"),
    [(INLINE, "launch"), (RAY, "driver"), pytest.param(RAY, "launch", marks=pytest.mark.slow)],
    ids=["inline", "driver", "local"],
)
def test_when_the_launch_is_killed_its_ranks_are_gone_in_seconds(
    tmp_path: Path, undisturbed: Path, arguments: tuple[str, ...], victim: str
) -> None:
    home = tmp_path / "home"
    with Scan(home, *arguments) as scan:
        assert scan.launch.find("rank")
        scan.launch.kill(victim)
        assert scan.launch.left(5) == []
    assert launched_here(home / "scan.toml", scan.folder.parent).exit_code == 0
    assert differences(tables(scan.folder), tables(undisturbed)) == []


def test_when_rank_0_is_killed_on_ray_another_goes_on(tmp_path: Path, undisturbed: Path) -> None:
    with Scan(tmp_path / "home", *RAY) as scan:
        before = {process.pid for process in scan.launch.find("rank")}
        assert scan.launch.kill("worker") == ["worker"]
        killed = time.monotonic()
        assert scan.launch.until(lambda: not before & {one.pid for one in scan.launch.find("rank")}, 5)
        print(f"its ranks were gone after {time.monotonic() - killed:.1f} s")
        assert scan.launch.wait() == 0, scan.launch.output
        assert scan.launch.left() == []
    assert differences(tables(scan.folder), tables(undisturbed)) == []


@pytest.mark.parametrize("arguments", [INLINE, pytest.param(RAY, marks=pytest.mark.slow)], ids=["inline", "local"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_launch_that_is_asked_to_end_takes_its_ranks_along(
    tmp_path: Path, arguments: tuple[str, ...], number: int
) -> None:
    with Scan(tmp_path / "home", *arguments) as scan:
        scan.launch.process.send_signal(number)
        assert scan.launch.wait(5) == 130, scan.launch.output
        assert scan.launch.left() == []
        assert "Traceback" not in scan.launch.output


def sleep(launch: Launched, seconds: float) -> None:
    """Let so much time pass, less where the launch ends."""
    end = time.monotonic() + seconds
    launch.until(lambda: time.monotonic() > end, seconds + 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kills_of_ranks_at_any_moment(tmp_path: Path) -> None:
    home, chance, hits = tmp_path / "home", seeded("ranks"), []
    file = scan_of_networks(home, epochs=400, processes=2)
    assert launched_here(file, home / "undisturbed").exit_code == 0
    while len(hits) < 12:
        launch = Launched(file, *INLINE, "--retry-failed")
        victim = chance.choice(["rank", "launch"])
        sleep(launch, chance.uniform(0, 12))
        hits += (hit := launch.kill(victim))
        print(f"{time.monotonic() - launch.began:.2f} s: killed {hit}")
        if hit and victim == "rank":  # and a moment later the launch
            sleep(launch, chance.uniform(0, 9))
        launch.kill("launch")
        assert launch.left(5) == []
    assert launched_here(file, home / "scans", retry_failed=True).exit_code == 0
    assert differences(tables(home / "scans" / "s"), tables(home / "undisturbed" / "s")) == []
