"""Ranks as processes: what becomes of a trial, and of the others, when one of them throws, dies or hangs."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from bench import Bench
from scans import TESTS

import nnscan
from nnscan.bundles import Bundles
from nnscan.launchers import BundleOutcome
from nnscan.launchers.inline import InlineLauncher
from nnscan.ranks import meeting
from nnscan.results.journal import Writer, journals
from nnscan.scan import read

QUICK = meeting.Times(rendezvous=60.0, grace=1.0, collective=60.0)


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)
    monkeypatch.setenv("PYTHONPATH", str(Path(nnscan.__file__).parents[1]))
    monkeypatch.setattr(meeting, "TIMES", QUICK)


def bench(path: Path, arguments: str, *, processes: int = 2, epochs: int = 2) -> Bench:
    """Return a launch of a network with a trouble, and of one without."""
    scan = read(f"""
        name = "s"
        data.name = "digits"
        training.epochs = {epochs}
        training.batch_size = 512
        [[grid]]
        family = "A"
        model.name = "ranked:troubled"
        model.arguments = {{ {arguments} }}
        optimizer.name = "sgd"
        [[grid]]
        family = "B"
        model.name = "ranked:troubled"
        model.arguments = {{ trouble = "none", at = 9 }}
        optimizer.name = "sgd"
    """)
    return Bench(scan, path, processes=processes, cpus_per_trial=processes)


def launched(bench: Bench) -> list[BundleOutcome]:
    """Launch here; no process of it is left."""
    before = set(psutil.Process().children(recursive=True))
    bundles = Bundles(bench.bundle.launch, len(bench.trials), 1)
    outcomes = list(InlineLauncher(bench.folder.path, TESTS).submit(bundles))
    assert set(psutil.Process().children(recursive=True)) <= before
    assert journals(bench.folder) == []
    return outcomes


def test_two_ranks_train_a_bundle_and_one_writes(tmp_path: Path) -> None:
    one = bench(tmp_path, 'trouble = "none"')
    (outcome,) = launched(one)
    assert outcome.error == ""
    assert one.rows("status", "processes", "attempt") == [("completed", 2, 1), ("completed", 2, 1)]
    assert len(list(one.folder.trials.glob("*.parquet"))) == 1


def test_what_all_ranks_throw_is_an_ordinary_failure_and_they_go_on(tmp_path: Path) -> None:
    one = bench(tmp_path, 'trouble = "throw"')
    started = time.monotonic()
    launched(one)
    print(time.monotonic() - started)
    assert one.rows("status", "failure", "error", "attempt") == [
        ("failed", "config", "UserError: trouble on -1", 1),
        ("completed", "", "", 1),
    ]
    assert len(list(one.folder.logs.glob("*.1.log"))) == 1
    assert len(list(one.folder.trials.glob("*.parquet"))) == 1  # one attempt at the bundle


def test_what_one_rank_throws_is_told_and_new_ranks_go_on(tmp_path: Path) -> None:
    one = bench(tmp_path, 'trouble = "throw", rank = 1')
    launched(one)
    assert one.rows("status", "failure", "error", "attempt") == [
        ("failed", "config", "rank 1 of 2: UserError: trouble on 1", 1),
        ("completed", "", "", 1),
    ]
    ((traceback,), _) = one.rows("traceback")
    assert "in throw" in traceback
    assert "trouble on 1" in traceback


def test_what_rank_0_throws_alone_is_told_and_new_ranks_go_on(tmp_path: Path) -> None:
    one = bench(tmp_path, 'trouble = "throw", rank = 0')
    launched(one)
    assert one.rows("status", "failure", "error", "attempt") == [
        ("failed", "config", "rank 0 of 2: UserError: trouble on 0", 1),
        ("completed", "", "", 1),
    ]


@pytest.mark.parametrize("trouble", ["kill", "exit"])
def test_a_trial_in_which_a_rank_dies_is_tried_again(tmp_path: Path, trouble: str) -> None:
    one = bench(tmp_path, f'trouble = "{trouble}", rank = 1, once = "{tmp_path}/died"')
    launched(one)
    assert one.rows("status", "failure", "attempt") == [("completed", "", 2), ("completed", "", 1)]


def test_a_trial_in_which_a_rank_dies_three_times_is_lost(tmp_path: Path) -> None:
    one = bench(tmp_path, 'trouble = "kill", rank = 1')
    launched(one)
    assert one.rows("status", "failure", "attempt") == [("failed", "lost", 3), ("completed", "", 1)]
    ((error,), _) = one.rows("error")
    assert error.startswith("rank 1 of 2 died")


def test_a_rank_that_stands_still_is_told_when_the_time_of_a_collective_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "TIMES", replace(QUICK, collective=2.0))
    one = bench(tmp_path, f'trouble = "stop", rank = 1, once = "{tmp_path}/stopped"')
    launched(one)
    assert one.rows("status", "failure", "attempt") == [("completed", "", 2), ("completed", "", 1)]


def test_a_rank_that_hangs_before_the_group_is_made_is_told_and_another_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meeting, "TIMES", replace(QUICK, rendezvous=3.0))
    one = bench(tmp_path, 'trouble = "none"')
    told: list[str] = []
    write_end = Writer.end

    def end(writer: Writer, row: Any) -> None:
        told.append(row["error"])
        monkeypatch.setattr(meeting, "TIMES", QUICK)  # who comes next has time
        write_end(writer, row)

    monkeypatch.setattr(Writer, "end", end)
    hang_once()
    launched(one)
    assert len(told) == 3
    assert told[0].startswith("rank 1 of 2 did not come to 127.0.0.1:")
    assert told[0].endswith(" in 3 s")
    assert one.rows("status", "failure", "attempt") == [("completed", "", 2), ("completed", "", 1)]


def hang_once() -> None:
    """Stop the next rank that starts."""

    def stop() -> None:
        before = set(psutil.Process().children())
        while not (new := set(psutil.Process().children()) - before):
            time.sleep(0.001)
        for process in new:
            process.suspend()

    threading.Thread(target=stop, daemon=True).start()
