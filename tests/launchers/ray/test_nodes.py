"""A Ray cluster of two nodes: trials whose processes are spread over both, and a node that is lost."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from ray_node import START_SECONDS, free_address, ray_node
from scans import DIGITS, TESTS, function_scan, rows_of, run

import nnscan
from nnscan.launchers.session import end_session, in_session
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.scan import read

TWO_NODES = "\n[resources]\nprocesses_per_trial = 2\nnodes_per_trial = 2\n"


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)


@pytest.fixture(scope="module", autouse=True)
def environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(nnscan.__file__).parents[1]))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(16))
        yield


@pytest.fixture(scope="module")
def nodes() -> Iterator[tuple[str, int, int]]:
    """Address of a cluster of two nodes with a CPU each, and the sessions of its nodes, that of the head first."""
    address = free_address()
    with ExitStack() as stack:
        head = stack.enter_context(ray_node(address, 1))
        other = stack.enter_context(ray_node(address, 1, head=False))
        yield address, head, other


def test_the_processes_of_a_trial_are_spread_over_nodes(nodes: tuple[str, int, int], tmp_path: Path) -> None:
    address, head, other = nodes
    seen: dict[int, set[str]] = {head: set(), other: set()}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.05):
            for session, names in seen.items():
                names.update(process.name() for process in in_session(session))

    threading.Thread(target=watch, daemon=True).start()
    scan = read(DIGITS + TWO_NODES)
    outcome = run(scan, tmp_path, cluster="ray", address=address)
    ended.set()
    assert (outcome.exit_code, outcome.error, outcome.progress.completed) == (0, "", 6)
    assert set(rows_of(outcome, "processes")) == {(2,)}
    ranks = [{name for name in names if "Trainable" in name or "Rank" in name} for names in seen.values()]
    assert all(ranks), seen  # rank 0 on one node, rank 1 on the other


def test_trials_that_two_nodes_do_not_take_are_told(nodes: tuple[str, int, int], tmp_path: Path) -> None:
    scan = read(DIGITS + "\n[resources]\nprocesses_per_trial = 4\nnodes_per_trial = 2\n")
    outcome = run(scan, tmp_path, cluster="ray", address=nodes[0])
    assert outcome.exit_code == 1
    assert "a trial needs 4 CPU and 0 GPU; its nodes together have 2 CPU and 0 GPU" in outcome.error


def is_training(session: int) -> bool:
    """Return whether a node has a rank: Ray starts workers beyond those that do something."""
    return any("Trainable" in process.name() or "Rank" in process.name() for process in in_session(session))


def lost_when(reached: Callable[[], bool], find: Callable[[], int]) -> threading.Thread:
    """End a node, the one that `find` gives, when something is so."""

    def lose() -> None:
        deadline = time.monotonic() + START_SECONDS
        while not reached() and time.monotonic() < deadline:
            time.sleep(0.05)
        end_session(find())

    losing = threading.Thread(target=lose, daemon=True)
    losing.start()
    return losing


def ended(folder: ScanFolder) -> int:
    return len(store.read_trials(folder, ["trial"])) if folder.schema.exists() else 0


def test_a_trial_goes_on_where_the_node_of_a_rank_is_lost_and_there_is_another(
    nodes: tuple[str, int, int], tmp_path: Path
) -> None:
    address, head, _ = nodes
    scan = read(DIGITS.replace("epochs = 2", "epochs = 30") + TWO_NODES)
    folder = ScanFolder(tmp_path / "scans" / scan.name)
    with ray_node(address, 1, head=False):
        sessions = {os.getsid(child.pid) for child in psutil.Process().children()} - {os.getsid(0), head}

        def of_a_rank() -> int:
            return next(session for session in sessions if is_training(session))

        losing = lost_when(lambda: ended(folder) > 0, of_a_rank)
        outcome = run(scan, tmp_path, cluster="ray", address=address)
        losing.join()
    assert (outcome.exit_code, outcome.error, outcome.progress.completed) == (0, "", 6)
    assert sorted(attempt for (attempt,) in rows_of(outcome, "attempt")) == [1, 1, 1, 1, 1, 2]


def test_a_scan_goes_on_where_a_node_is_lost(nodes: tuple[str, int, int], tmp_path: Path) -> None:
    address, _, other = nodes
    rates = [0.5 + number for number in range(12)]
    scan = function_scan("sleep", rates, folds=1, seconds=0.3, folder=str(tmp_path))
    folder = ScanFolder(tmp_path / "scans" / scan.name)
    with ray_node(address, 1, head=False):
        losing = lost_when(lambda: ended(folder) > 2, lambda: other)
        outcome = run(scan, tmp_path, cluster="ray", address=address)
        losing.join()
    assert (outcome.exit_code, outcome.error, outcome.progress.completed) == (0, "", 12)
    attempts = [attempt for (attempt,) in rows_of(outcome, "attempt")]
    assert sorted(attempts)[:-1] == [1] * 11  # at most the trial that the node was in was tried again
