from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from functions import note
from scans import TESTS, function_scan

from nnscan import launch_folder, worker
from nnscan.allocation import Allocation, AllocationEndedError, Reason
from nnscan.bundles import Bundle
from nnscan.errors import DataError
from nnscan.failure import FAILURES_IN_A_ROW
from nnscan.launch_folder import Launch
from nnscan.plan import expand
from nnscan.results import store
from nnscan.results.cancelled import Cancelled, write_cancelled
from nnscan.results.journal import Cause, Writer, journals
from nnscan.scan import Scan, read
from nnscan.trial import Trial


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)


def network_scan(data: str) -> Scan:
    """A scan of one network, trained for an epoch."""
    return read(
        f'name = "s"\n[data]\n{data}\n[model]\nname = "mlp"\n[optimizer]\nname = "sgd"\n[training]\nepochs = 1\n'
    )


def notes(path: Path) -> list[str]:
    return (path / "notes").read_text().splitlines()


def test_a_bundle_leaves_parts_and_no_journal(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5, 2.0]), tmp_path)
    bench.run()
    assert bench.rows("status", "score") == [
        ("completed", 0.125),
        ("completed", 0.140625),
        ("completed", 0.5),
        ("completed", 0.515625),
    ]
    assert journals(bench.folder) == []
    assert len(list(bench.folder.trials.glob("*.parquet"))) == 1


def test_rows_say_where_they_were_made(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5], folds=1), tmp_path, cpus_per_trial=2)
    bench.run()
    columns = ("launch", "bundle", "device", "threads", "processes", "fused", "attempt")
    assert bench.rows(*columns) == [(bench.bundle.launch, bench.bundle.name, "cpu", 2, 1, 1, 1)]


def test_a_repeated_bundle_trains_only_what_is_left(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5, 2.0], folder=str(tmp_path)), tmp_path)
    with store.writing(bench.folder, bench.bundle.name, {}) as writer:
        for trial in bench.trials[:3]:
            row = {"trial": trial.key, "attempt": 1}
            writer.start({**row, "settings": trial.settings})
            writer.end({**row, "status": "completed", "metrics": {}})
    bench.run()
    assert notes(tmp_path) == ["2.0 1"]
    assert len(bench.rows("status")) == 4


def dead_writer(bench: Bench, trial: Trial) -> Writer:
    """A writer that started `trial` and then never wrote again."""
    writer = Writer(bench.folder, bench.bundle.name, {})
    attempt = 1 + store.ended_in_bundle(bench.folder, bench.bundle.name)[1].get(trial.key, 0)
    writer.start({"trial": trial.key, "attempt": attempt, "settings": trial.settings})
    return writer


def test_the_trial_in_which_a_worker_died_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5]), tmp_path)
    dead_writer(bench, bench.trials[0])
    bench.run()
    assert bench.rows("status", "attempt") == [("completed", 2), ("completed", 1)]


def test_the_trial_in_which_workers_died_three_times_stays_lost_and_the_others_go_on(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5]), tmp_path)
    for _ in range(3):
        dead_writer(bench, bench.trials[0])
        store.close_journals(bench.folder, lambda _: True, Cause.LOST)
    bench.run()
    assert bench.rows("status", "failure", "attempt") == [("failed", "lost", 3), ("completed", "", 1)]


def test_attempts_of_earlier_launches_count(tmp_path: Path) -> None:
    scan = function_scan("learn", [0.5], folds=1)
    bench = Bench(scan, tmp_path)
    bench.trials = list(expand(scan).trials(attempts={bench.trials[0].key: 2}))
    name = launch_folder.new_name()
    launch = Launch(name=name, scan="s", metric=scan.metric, code=str(TESTS), data_root=str(TESTS))
    launch_folder.write(bench.folder, launch, bench.trials)
    bench.bundle = Bundle(name, 0, 1)
    bench.run()
    assert bench.rows("status", "attempt") == [("completed", 3)]


def test_only_the_range_of_the_bundle_runs(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5, 1.0, 2.0], folder=str(tmp_path)), tmp_path)
    bench.bundle = Bundle(bench.bundle.launch, 1, 4)
    bench.run()
    assert notes(tmp_path) == ["0.5 1", "1.0 0", "1.0 1"]


def test_a_trial_that_ran_out_of_memory_is_tried_once_more_at_the_end(tmp_path: Path) -> None:
    scan = function_scan("run_out_of_memory", [2.0, 0.5, 3.0], folds=1, folder=str(tmp_path), times=1)
    bench = Bench(scan, tmp_path)
    bench.run()
    assert notes(tmp_path) == ["2.0", "done 0.5", "3.0", "2.0", "done 2.0", "3.0", "done 3.0"]
    assert bench.rows("status", "attempt") == [("completed", 2), ("completed", 1), ("completed", 2)]


def test_a_trial_that_runs_out_of_memory_twice_has_failed(tmp_path: Path) -> None:
    bench = Bench(function_scan("run_out_of_memory", [2.0], folds=1, folder=str(tmp_path), times=9), tmp_path)
    bench.run()
    assert bench.rows("status", "failure", "attempt", "error") == [("failed", "out of memory", 2, "MemoryError")]
    assert notes(tmp_path) == ["2.0", "2.0"]


def test_equal_failures_in_a_row_stop_the_scan_and_say_why(tmp_path: Path) -> None:
    rates = [float(rate) for rate in range(2, 9)]
    bench = Bench(function_scan("throw", rates, folds=1), tmp_path)
    bench.run()
    assert bench.rows("error") == [("UserError: no such rate",)] * FAILURES_IN_A_ROW
    said = bench.folder.stop.read_text()
    assert "5 trials in a row failed alike: UserError: no such rate" in said
    assert str(TESTS / "functions.py") in said


def test_failures_add_up_over_the_bundles_of_a_process_and_not_over_launches(tmp_path: Path) -> None:
    bench = Bench(function_scan("throw", [2.0, 3.0, 4.0, 5.0, 6.0, 7.0], folds=1), tmp_path)
    whole = bench.bundle
    for start in range(3):
        bench.bundle = Bundle(whole.launch, 2 * start, 2 * start + 2)
        bench.run()
    assert len(bench.rows("status")) == FAILURES_IN_A_ROW
    (tmp_path / "other").mkdir()
    other = Bench(function_scan("throw", [2.0], folds=1), tmp_path / "other")
    other.run()
    assert not other.folder.stop.exists()


def test_a_worker_that_was_asked_to_stop_starts_nothing(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5]), tmp_path)
    bench.folder.stop.write_text("enough")
    bench.run()
    assert bench.rows("status") == []


def test_a_worker_whose_journal_was_taken_away_ends_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(function_scan("learn", [0.5, 2.0], folder=str(tmp_path)), tmp_path)
    write_epoch = Writer.epoch

    def taken_away_meanwhile(writer: Writer, row: Any) -> None:
        write_epoch(writer, row)
        store.close_journals(bench.folder, lambda _: True, Cause.INTERRUPTED)

    monkeypatch.setattr(Writer, "epoch", taken_away_meanwhile)
    bench.run()
    assert notes(tmp_path) == ["0.5 0"]  # no second trial was begun
    assert bench.rows("status") == []  # and what the first wrote behind the row `closed` does not count


def test_cancelled_trials_and_families_are_passed_over(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5, 2.0], folder=str(tmp_path)), tmp_path)
    write_cancelled(bench.folder, Cancelled(frozenset({"Other"}), frozenset({bench.trials[1].key})))
    bench.run()
    assert notes(tmp_path) == ["0.5 0", "2.0 0", "2.0 1"]
    write_cancelled(bench.folder, Cancelled(frozenset({"Own"})))
    (tmp_path / "other").mkdir()
    other = Bench(function_scan("learn", [0.5]), tmp_path / "other")
    write_cancelled(other.folder, Cancelled(frozenset({"Own"})))
    other.run()
    assert other.rows("status") == []


def test_a_trial_that_is_cancelled_while_it_runs_ends_after_its_epoch_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(function_scan("learn", [0.5]), tmp_path)
    first, second = bench.trials
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(Writer, "interrupted", lambda _, trial, reason: told.append((trial, reason)))
    cancel_at(bench, first, monkeypatch)
    bench.run()
    assert told == [(first.key, "cancelled")]
    assert [trial for (trial,) in bench.rows("epochs_run")] == [2]
    assert store.read_trials(bench.folder, ["trial"])["trial"].to_pylist() == [second.key]


def cancel_at(bench: Bench, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancel `trial` when its first epoch is written."""
    write_epoch = Writer.epoch

    def cancelled_meanwhile(writer: Writer, row: Any) -> None:
        write_epoch(writer, row)
        if row["trial"] == trial.key:
            write_cancelled(bench.folder, Cancelled(trials=frozenset({trial.key})))

    monkeypatch.setattr(Writer, "epoch", cancelled_meanwhile)


def test_a_worker_starts_no_trial_that_the_time_left_does_not_take(tmp_path: Path) -> None:
    scan = function_scan("sleep", [0.5, 1.0], folder=str(tmp_path), seconds=0.1)
    bench = Bench(scan, tmp_path)
    # Of the first trial nothing is known; the second would take 0.1 s as the first did.
    allocation = Allocation(ends=time.time() + 0.15, seconds=100.0)
    with pytest.raises(AllocationEndedError, match="time limit"):
        bench.run(allocation=allocation)
    assert bench.rows("status") == [("completed",)]
    assert journals(bench.folder) == []
    bench.run(allocation=Allocation(ends=time.time() + 50, seconds=100.0))
    assert bench.rows("status", "attempt") == [("completed", 1)] * 4


def test_a_worker_knows_of_earlier_ones_how_long_a_trial_takes(tmp_path: Path) -> None:
    bench = Bench(function_scan("learn", [0.5]), tmp_path)
    with store.writing(bench.folder, "an-earlier-bundle", {}) as writer:
        row = {"trial": "f" * 32, "attempt": 1}
        writer.start({**row, "settings": bench.trials[0].settings, "families": ["Own"]})
        writer.end({**row, "status": "completed", "metrics": {}, "seconds": 1000.0})
    with pytest.raises(AllocationEndedError):
        bench.run(allocation=Allocation(ends=time.time() + 100, seconds=2000.0))
    assert bench.rows("status") == []
    bench.run(allocation=Allocation(ends=time.time() + 100, seconds=500.0))  # it would not fit into any
    assert bench.rows("status") == [("completed",)] * 2


@pytest.mark.parametrize("reason", Reason)
def test_a_worker_whose_allocation_was_ended_by_a_signal_starts_nothing(tmp_path: Path, reason: Reason) -> None:
    bench = Bench(function_scan("learn", [0.5]), tmp_path)
    allocation = Allocation()
    allocation.end(reason)
    with pytest.raises(AllocationEndedError, match=reason.value):
        bench.run(allocation=allocation)
    assert bench.rows("status") == []


def test_a_dotted_path_that_imports_nothing_here_fails_its_trials(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "only_there.py").write_text("def train(seed):\n    yield {'val_loss': 1.0}\n")
    os.chdir(home)
    training = 'function = "only_there:train"\nmetrics = ["val_loss"]\nepochs = 1\n'
    bench = Bench(read(f'name = "s"\n[validation]\nfolds = 2\n[training]\n{training}'), tmp_path)
    (home / "only_there.py").unlink()
    os.chdir(TESTS)
    sys.path.remove(str(home))
    sys.modules.pop("only_there", None)
    bench.run()
    ((error, failure), _) = bench.rows("error", "failure")
    assert failure == "config"
    assert error.startswith("ScanError: only_there:train")


def test_data_that_have_vanished_end_the_bundle_and_leave_its_trials_unfinished(tmp_path: Path) -> None:
    bench = Bench(network_scan('name = "image_folder"\nroot = "nowhere"\nsize = 8'), tmp_path)
    with pytest.raises(DataError):
        bench.run()
    assert bench.rows("status") == []
    assert journals(bench.folder) == []
    bench.bundle = Bundle(bench.bundle.launch, 0, 1)
    assert store.ended_in_bundle(bench.folder, bench.bundle.name) == (set(), {})


def test_torch_is_imported_before_the_clock_of_the_first_attempt_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = []
    run_attempt = worker.attempt.run

    def seen(*arguments: Any) -> Any:
        imported.append("nnscan.training.network" in sys.modules)
        return run_attempt(*arguments)

    monkeypatch.delitem(sys.modules, "nnscan.training.network", raising=False)
    monkeypatch.setattr(worker.attempt, "run", seen)
    Bench(network_scan('name = "digits"'), tmp_path).run()
    assert imported == [True]


def test_notes_count(tmp_path: Path) -> None:
    assert [note(str(tmp_path), words) for words in ("a", "b", "a")] == [1, 1, 2]
