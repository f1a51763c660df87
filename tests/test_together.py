"""Bundles whose trials are trained together, from the worker's side."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from bench import Bench
from scans import TESTS, differences

from nnscan.allocation import Allocation, AllocationEndedError, Reason
from nnscan.attempt import NotTogetherError
from nnscan.errors import StoreError
from nnscan.pace import Pace
from nnscan.results import store
from nnscan.results.cancelled import Cancelled, write_cancelled
from nnscan.results.journal import Writer, journals, read_rows
from nnscan.results.store import read_epochs
from nnscan.scan import Scan, read
from nnscan.training import checkpoint
from nnscan.training.fusion.group import FusedGroup
from nnscan.training.fusion.perceptrons import Perceptrons
from nnscan.training.network import NetworkTraining, Timer
from nnscan.training.state import TrainingState


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)


RATES = "[0.001, 0.003, 0.01]"


def scan(model: str = 'name = "mlp"\nwidth = 8\ndropout = 0.2', epochs: int | str = 3, rates: str = RATES) -> Scan:
    return read(
        f"""
        name = "s"
        [data]
        name = "digits"
        [validation]
        folds = 2
        [training]
        batch_size = 64
        [optimizer]
        name = "adam"
        [model]
        {model}
        [[grid]]
        family = "F"
        training.epochs = {epochs}
        optimizer.learning_rate = {rates}
        """
    )


CNN = 'name = "cnn"\nchannels = [4]'


def ran(path: Path, of: Scan | None = None, **changes: Any) -> Bench:
    path.mkdir(exist_ok=True)
    bench = Bench(of or scan(), path, **{"fuse": "auto", **changes})
    bench.run()
    return bench


def statuses(bench: Bench) -> list[str]:
    return [status for (status,) in bench.rows("status")]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The scan, trained together and undisturbed."""
    path = tmp_path_factory.mktemp("expected")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TESTS)
        return ran(path)


def test_trials_of_one_shape_are_trained_together_and_say_with_how_many(expected: Bench) -> None:
    assert expected.rows("status", "fused", "attempt") == [("completed", 6, 1)] * 6
    assert journals(expected.folder) == []


@pytest.mark.parametrize("fuse", ["1", "2", "4"])
def test_the_bits_do_not_depend_on_the_company(expected: Bench, tmp_path: Path, fuse: str) -> None:
    bench = ran(tmp_path, fuse=fuse)
    assert differences(bench.folder, expected.folder) == []
    assert {fused for (fused,) in bench.rows("fused")} <= set(range(1, int(fuse) + 1))


def test_alone_they_give_the_same_but_for_the_rounding_of_the_training_loss(expected: Bench, tmp_path: Path) -> None:
    bench = ran(tmp_path, fuse="off")
    assert {fused for (fused,) in bench.rows("fused")} == {1}
    assert all("train_loss" in line for line in differences(bench.folder, expected.folder))


def test_what_has_no_rule_of_its_own_is_trained_alone_unless_asked(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    bench = ran(tmp_path / "auto", scan(CNN, epochs=1))
    assert bench.rows("status", "fused") == [("completed", 1)] * 6
    assert capfd.readouterr().out.count("trained one by one: ") <= 1
    bench = ran(tmp_path / "asked", scan(CNN, epochs=1), fuse="3")
    assert bench.rows("status", "fused") == [("completed", 3)] * 6


def test_one_that_is_cancelled_ends_after_its_epoch_and_the_others_go_on(
    expected: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(scan(), tmp_path, fuse="auto")
    write, second = Writer.epoch, bench.trials[1]

    def cancelled_meanwhile(writer: Writer, row: Any) -> None:
        write(writer, row)
        if row["trial"] == second.key and row["epoch"] == 1:
            write_cancelled(bench.folder, Cancelled(trials=frozenset({second.key})))

    monkeypatch.setattr(Writer, "epoch", cancelled_meanwhile)
    bench.run()
    assert len(bench.rows("status")) == 5
    assert set(bench.rows("score")) < set(expected.rows("score"))


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_the_end_of_the_allocation_saves_all_and_the_next_goes_on_bit_for_bit(
    expected: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    bench = Bench(scan(), tmp_path, fuse="auto")
    allocation, write = Allocation(), Writer.epoch

    def ends_meanwhile(writer: Writer, row: Any) -> None:
        write(writer, row)
        if row["trial"] == bench.trials[2].key and row["epoch"] == epoch:
            allocation.end(Reason.TIME_LIMIT)

    monkeypatch.setattr(Writer, "epoch", ends_meanwhile)
    with pytest.raises(AllocationEndedError, match="time limit"):
        bench.run(allocation=allocation)
    assert bench.rows("status") == []
    assert len(list(bench.folder.checkpoints.glob("*.pt"))) == 6
    assert all(path.stat().st_size < 60_000 for path in bench.folder.checkpoints.glob("*.pt"))  # a row, not the stack
    bench.run()
    assert differences(bench.folder, expected.folder) == []
    assert list(bench.folder.checkpoints.glob("*")) == []


def test_those_that_run_are_saved_where_the_time_takes_no_other(
    expected: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(scan(), tmp_path, fuse="2")
    allocation, asked = Allocation(), []

    def check_time(allocation: Allocation, pace: Any, trial: Any) -> None:
        asked.append(trial.key)
        if len(asked) == 4:  # two have ended together, a third has begun
            allocation.end(Reason.TIME_LIMIT)
            raise AllocationEndedError(Reason.TIME_LIMIT)

    with monkeypatch.context() as patch:
        patch.setattr("nnscan.worker._check_time", check_time)
        with pytest.raises(AllocationEndedError):
            bench.run(allocation=allocation)
    assert len(bench.rows("status")) == 2
    assert len(list(bench.folder.checkpoints.glob("*.pt"))) == 1
    bench.run()
    assert differences(bench.folder, expected.folder) == []


@pytest.mark.parametrize(("epoch", "cadence"), [(2, "epochs"), (3, "epochs"), (3, "minutes")])
def test_each_goes_on_from_its_own_checkpoint_where_the_group_was_ended(
    expected: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cadence: str, epoch: int
) -> None:
    bench = Bench(scan(), tmp_path, fuse="auto", checkpoint_epochs=int(cadence == "epochs"))
    write, save, asked = Writer.epoch, checkpoint.save, count(1)
    monkeypatch.setattr(Timer, "is_due", lambda _: cadence == "minutes" and next(asked) % 10 == 0)
    saved: set[str] = set()

    def full(writer: Writer, row: Any) -> None:
        write(writer, row)
        if row["trial"] == bench.trials[2].key and row["epoch"] == epoch:
            raise StoreError("full")

    def noted(folder: Path, writer: str, state: TrainingState, rows: Any, *, fingerprint: str) -> Path:
        saved.add(state.trial.key)
        return save(folder, writer, state, rows, fingerprint=fingerprint)

    monkeypatch.setattr(Writer, "epoch", full)
    monkeypatch.setattr(checkpoint, "save", noted)
    with pytest.raises(StoreError, match="full"):
        bench.run()
    assert saved == {trial.key for trial in bench.trials}
    monkeypatch.setattr(Writer, "epoch", write)
    bench.run()
    assert differences(bench.folder, expected.folder) == []


@pytest.mark.parametrize(("signal", "ended", "saved"), [(False, 2, 0), (True, 1, 1)], ids=["time limit", "signal"])
def test_those_that_run_lose_nothing_where_no_further_one_may_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signal: bool, ended: int, saved: int
) -> None:
    bench = Bench(scan(rates="[0.01]", epochs="[1, 3]"), tmp_path, fuse="2")
    allocation, note = Allocation(ends=time.time() + 1e4, seconds=1e6), Pace.ended

    def noted(pace: Pace, trial: Any, seconds: float) -> None:
        note(pace, trial, seconds if signal else 1e5)
        if signal:
            allocation.end(Reason.TERMINATED)

    monkeypatch.setattr(Pace, "ended", noted)
    with pytest.raises(AllocationEndedError):
        bench.run(allocation=allocation)
    assert len(statuses(bench)) == ended
    assert len(list(bench.folder.checkpoints.glob("*.pt"))) == saved


def test_nothing_begins_once_the_scan_was_asked_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(scan(), tmp_path, fuse="2")
    write = Writer.epoch

    def stopped_meanwhile(writer: Writer, row: Any) -> None:
        write(writer, row)
        bench.folder.stop.touch()

    monkeypatch.setattr(Writer, "epoch", stopped_meanwhile)
    bench.run()
    assert statuses(bench) == ["completed"] * 2


def test_a_disk_that_is_full_loses_no_trial_that_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(scan(), tmp_path, fuse="2")
    write, ends = Writer.epoch, Writer.end
    ended: list[str] = []

    def end(writer: Writer, row: Any) -> None:
        ends(writer, row)
        ended.append(row["trial"])

    def full(writer: Writer, row: Any) -> None:
        if len(ended) == 2:
            raise StoreError("full")
        write(writer, row)

    monkeypatch.setattr(Writer, "end", end)
    monkeypatch.setattr(Writer, "epoch", full)
    with pytest.raises(StoreError, match="full"):
        bench.run()
    assert len(store.read_trials(bench.folder)) == 2
    monkeypatch.undo()
    monkeypatch.chdir(TESTS)
    bench.run()
    assert statuses(bench) == ["completed"] * 6


def broken(error: type[BaseException], sizes: set[int]) -> Any:
    """Return a forward pass that throws where it is one of so many."""

    def forward(networks: Perceptrons, rows: slice, inputs: Any) -> Any:
        if rows.stop - rows.start in sizes:
            raise error("no room")
        return original(networks, rows, inputs)

    original = Perceptrons.forward
    return forward


def test_a_group_without_memory_is_halved(
    expected: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Perceptrons, "forward", broken(MemoryError, {3, 4, 5, 6}))
    bench = ran(tmp_path, fuse="6")
    assert "could not go on" in capfd.readouterr().out
    assert differences(bench.folder, expected.folder) == []
    assert {fused for (fused,) in bench.rows("fused")} <= {1, 2}


def test_what_finds_no_memory_beside_others_is_no_failure_of_its_own(
    expected: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = NetworkTraining.open
    sizes = set()

    def refusing(trial: Any, place: Any, join: Any) -> NetworkTraining:
        training = opened(trial, place, join)
        group = join.__self__.group
        sizes.add(group.size)
        if len(group.members) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")  # as torch says it
        return training

    monkeypatch.setattr(NetworkTraining, "open", refusing)
    bench = ran(tmp_path, fuse="5")
    assert sizes == {5, 2}
    assert differences(bench.folder, expected.folder) == []
    assert bench.rows("status", "attempt") == [("completed", 1)] * 6


def test_one_that_diverges_says_with_how_many_it_was_trained(tmp_path: Path) -> None:
    bench = ran(tmp_path, scan('name = "mlp"\nwidth = 8', rates="[1e30, 0.01]"))
    assert bench.rows("status", "fused") == [("diverged", 4)] * 2 + [("completed", 4)] * 2


def test_what_breaks_the_group_is_found_where_each_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(scan(), tmp_path, fuse="auto")
    monkeypatch.setattr(Perceptrons, "forward", broken(RuntimeError, set(range(9))))
    bench.run()
    assert bench.rows("status", "fused", "attempt") == [("completed", 1, 1)] * 6


def test_a_trial_that_fails_to_open_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(scan(), tmp_path, fuse="auto")
    opened = NetworkTraining.open

    def refusing(trial: Any, place: Any, join: Any) -> NetworkTraining:
        training = opened(trial, place, join)
        if trial.key == bench.trials[3].key:
            raise ValueError("not this one")  # after it has joined
        return training

    monkeypatch.setattr(NetworkTraining, "open", refusing)
    bench.run()
    found = dict(zip([trial.key for trial in bench.trials], bench.rows("status", "error"), strict=True))
    assert found.pop(bench.trials[3].key) == ("failed", "ValueError: not this one")
    assert {status for status, _ in found.values()} == {"completed"}


def test_attempts_that_a_group_gave_up_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(scan(), tmp_path, fuse="auto")

    def broken_off(group: FusedGroup, interrupted: Any) -> None:
        for journal in journals(bench.folder):
            told.extend(read_rows(journal.path)[0])
        raise NotTogetherError from RuntimeError("off")

    told: list[dict[str, Any]] = []
    monkeypatch.setattr(FusedGroup, "train_epoch", broken_off)
    bench.run()
    assert statuses(bench) == ["completed"] * 6
    epochs = read_epochs(bench.folder, columns=["trial", "epoch"]).to_pylist()
    assert len(epochs) == 24  # those of the attempts that count: epoch 0 stands once


@pytest.mark.parametrize("fuse", ["auto", "off"])
def test_a_bundle_of_several_shapes_trains_each_with_its_own(tmp_path: Path, fuse: str) -> None:
    both = read(
        """
        name = "s"
        [data]
        name = "digits"
        [validation]
        folds = 2
        [training]
        epochs = 1
        [optimizer]
        name = "sgd"
        [[grid]]
        family = "F"
        model.name = "mlp"
        model.width = [4, 8]
        optimizer.learning_rate = [0.01, 0.1]
        """
    )
    bench = ran(tmp_path, both, fuse=fuse)
    assert bench.rows("status", "fused") == [("completed", 4 if fuse == "auto" else 1)] * 8
