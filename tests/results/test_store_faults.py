"""The store under kills, zombies, several sealers, compaction and readers, all at once."""

from __future__ import annotations

import multiprocessing
import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas
import pytest
from interleaving import Actor, Stage, pause, stage
from synthetic_scan import PLACE, key, make_folder, write_trial

from nnscan.results import part, store
from nnscan.results.compaction import compact
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Journal, Writer, close, journals
from nnscan.results.schema import Schemas, hyperparameters
from nnscan.results.store import close_journals, ended_in_bundle, read_epochs, read_trials, seal, widen

BUNDLES = 3
TRIALS_PER_BUNDLE = 3
EPOCHS = 2


def run_bundle(folder: ScanFolder, number: int, mark: float, rest: Callable[[], None] = pause) -> None:
    """What a worker does with a bundle; `mark` is in the metrics of all its epochs."""
    bundle = f"l-{number}"
    close_journals(folder, lambda name: name == bundle, Cause.LOST)
    done, _ = ended_in_bundle(folder, bundle)
    writer = Writer(folder, bundle, PLACE)
    for trial in range(number * TRIALS_PER_BUNDLE, (number + 1) * TRIALS_PER_BUNDLE):
        rest()
        if writer.closed():
            return
        if key("trial", trial) not in done:
            write_trial(writer, trial, epochs=EPOCHS, mark=mark, status=("completed", "failed", "diverged")[trial % 3])
    closed = writer.close()
    if closed:
        seal(folder, closed)


class Reader:
    """Reads again and again; each reading must hold all that an earlier one showed."""

    def __init__(self, folder: ScanFolder) -> None:
        self.folder = folder
        self.seen: set[str] = set()
        self.succeeded: set[str] = set()

    def read(self) -> None:
        table = read_trials(self.folder, ["trial", "status"])
        trials = table["trial"].to_pylist()
        assert len(set(trials)) == len(trials), "a trial stands twice"
        assert self.seen <= set(trials), "a trial that an earlier reading showed is lost"
        succeeded = {row["trial"] for row in table.to_pylist() if row["status"] != "failed"}
        assert self.succeeded <= succeeded, "a success that an earlier reading showed is lost"
        self.seen |= set(trials)
        self.succeeded |= succeeded
        check_epochs(self.folder, self.succeeded)


def check_epochs(folder: ScanFolder, succeeded: set[str]) -> None:
    """Every trial has its epochs once, all of one attempt; one that succeeded has every one."""
    rows: dict[str, list[tuple[int, float, str]]] = {}
    for row in read_epochs(folder, columns=["trial", "epoch", "learning_rate", "writer"]).to_pylist():
        rows.setdefault(row["trial"], []).append((row["epoch"], row["learning_rate"], row["writer"]))
    for trial, own in rows.items():
        expected = EPOCHS + 1 if trial in succeeded else len(own)
        assert sorted(epoch for epoch, _, _ in own) == list(range(expected)), "epochs are missing or double"
        assert len({(mark, writer) for _, mark, writer in own}) == 1, "epochs of two attempts are mixed"
    assert succeeded <= rows.keys(), "the epochs of a trial that an earlier reading showed are lost"


def read_some(reader: Reader, times: int = 6) -> None:
    for _ in range(times):
        reader.read()


class Play:
    """One run: workers that die, freeze and come back, whoever takes over, compaction, and readers."""

    def __init__(self, folder: ScanFolder, stage: Stage) -> None:
        self.folder = folder
        self.stage = stage
        self.marks = 0
        self.reader = Reader(folder)
        self.launch: Actor | None = None
        self.launches = 0
        for number in range(BUNDLES):
            self.worker(number)
        stage.start("reader", lambda: read_some(self.reader))

    def worker(self, number: int) -> None:
        self.marks += 1
        mark = float(self.marks)
        self.stage.start(f"worker {number} {self.marks}", lambda: run_bundle(self.folder, number, mark))

    def tidy(self) -> None:
        """What a launch does under the lock; one at a time, as the lock has it."""
        if self.launches < 4 and (self.launch is None or self.launch.done or self.launch.killed):
            self.launches += 1
            self.launch = self.stage.start("launch", self.widen_and_compact)

    def widen_and_compact(self) -> None:
        widen(self.folder, Schemas.of(hyperparameters([{"model": {"arguments": {f"a{self.launches}": 1}}}])))
        compact(self.folder)

    def between(self, actor: Actor) -> None:
        """Now and then a worker or the launch dies or freezes, another takes over, and a launch tidies up."""
        chance = self.stage.chance.random()
        if chance < 0.01 and actor.name != "reader":
            actor.killed = True
        elif chance < 0.03 and actor.name != "reader":
            actor.frozen_turns = self.stage.chance.choice((5, 50, 500))
        elif chance < 0.05 and self.marks < 3 * BUNDLES:
            self.worker(self.stage.chance.randrange(BUNDLES))
        elif chance < 0.08:
            self.tidy()


SEEDS = [*range(24), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(24, 400))]


@pytest.mark.parametrize("seed", SEEDS)
def test_interleavings_lose_and_double_nothing(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _switch_in_arrow_too(monkeypatch)
    folder = make_folder(tmp_path / "scan")
    with stage(seed, folder.path) as actors:
        monkeypatch.setattr(secrets, "token_hex", lambda count: f"{actors.chance.getrandbits(8 * count):0{2 * count}x}")
        play = Play(folder, actors)
        actors.run(play.between)
        _finish(folder, play.reader)


def _switch_in_arrow_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch also where Arrow, in C++, opens a file, and before a row is appended."""
    opened, write = part.opened, Writer._write

    def pause_and_open(path: Path, dictionaries: Sequence[str] = ()) -> object:
        pause()
        return opened(path, dictionaries)

    def pause_and_write(self: Writer, data: bytes) -> None:
        pause()
        write(self, data)

    monkeypatch.setattr(part, "opened", pause_and_open)
    monkeypatch.setattr(Writer, "_write", pause_and_write)
    monkeypatch.setattr(store, "PAUSES_SECONDS", (0.0,) * 200)


def _finish(folder: ScanFolder, reader: Reader) -> None:
    """Close the dead, run what is left, compact: each trial stands once, and nothing else lies about."""
    reader.read()
    close_journals(folder, lambda _: True, Cause.INTERRUPTED)
    reader.read()
    for number in range(BUNDLES):
        run_bundle(folder, number, mark=0.5)
        reader.read()
    widen(folder, Schemas.of({}))
    compact(folder)
    compact(folder)
    reader.read()
    expected = {key("trial", trial) for trial in range(BUNDLES * TRIALS_PER_BUNDLE)}
    assert reader.seen == expected
    assert not list(folder.journal.iterdir())
    for table in (folder.trials, folder.epochs):
        assert len(list(table.glob("compacted.*.parquet"))) == len(list(table.glob("*.parquet"))) <= 3
    by_pandas = pandas.read_parquet(folder.trials)
    assert Counter(by_pandas["trial"]) == Counter(expected)
    counts = Counter(pandas.read_parquet(folder.epochs)["trial"])
    whole = by_pandas[by_pandas["failure"] != "lost"]["trial"]  # a lost attempt at a trial that had failed may stand
    assert all(counts[trial] == EPOCHS + 1 for trial in whole)
    assert counts.keys() <= expected


def _work(path: Path, number: int, mark: float) -> None:
    chance = random.Random(mark)
    run_bundle(ScanFolder(path), number, mark, lambda: time.sleep(chance.uniform(0, 0.05)))


def test_killed_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "scan")
    reader = Reader(folder)
    chance = random.Random(1)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nnscan.results.store"])
    workers: list[BaseProcess] = []
    for mark in range(1, 13):
        worker = context.Process(target=_work, args=(folder.path, mark % BUNDLES, float(mark)))
        worker.start()
        workers.append(worker)
        _read_for(reader, chance.uniform(0, 0.2))
        _kill(chance.choice(workers))
        if mark % 4 == 0:
            compact(folder)
    for worker in workers:
        _kill(worker)
    _finish(folder, reader)


def _read_for(reader: Reader, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        reader.read()


def _kill(worker: BaseProcess) -> None:
    if worker.is_alive():
        os.kill(worker.pid or 0, signal.SIGKILL)
    worker.join()


def test_an_epochs_reading_that_compaction_overtakes_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has chosen an attempt whose epochs are gone when it comes to them, for a better one that it has not seen."""
    folder = make_folder(tmp_path / "scan")
    _write_bundle(folder, "late", mark=1.0, time=2e9)

    def compact_before_epochs(table: Path) -> list[part.Part]:
        if table == folder.epochs:
            monkeypatch.undo()
            _write_bundle(folder, "early", mark=2.0, time=1e9)
            compact(folder)
        return part.parts(table)

    monkeypatch.setattr(store, "parts", compact_before_epochs)
    rows = read_epochs(folder)
    assert rows["learning_rate"].to_pylist() == [2.1] * (EPOCHS + 1)


def _write_bundle(folder: ScanFolder, bundle: str, *, mark: float, time: float) -> None:
    with store.writing(folder, bundle, PLACE) as writer:
        write_trial(writer, 0, epochs=EPOCHS, mark=mark, time=time)


def test_a_trial_that_is_sealed_behind_a_listing_of_parts_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "scan")
    trial = write_trial(Writer(folder, "l-0", PLACE), 0)

    def seal_behind(table: Path) -> list[part.Part]:
        found = part.parts(table)
        close_journals(folder, lambda _: True, Cause.LOST)
        return found

    monkeypatch.setattr(store, "parts", seal_behind)
    assert read_trials(folder, ["trial"])["trial"].to_pylist() == [trial]


def test_a_trial_whose_journal_is_closed_behind_a_listing_of_journals_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "scan")
    writer = Writer(folder, "l-0", PLACE)
    trial = write_trial(writer, 0)

    def close_behind(folder: ScanFolder) -> list[Journal]:
        found = journals(folder)
        close(writer.journal, Cause.LOST)
        return found

    monkeypatch.setattr(store, "journals", close_behind)
    assert read_trials(folder, ["trial"])["trial"].to_pylist() == [trial]


def test_a_journal_that_is_renamed_while_listed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(tmp_path / "scan")
    writer = Writer(folder, "l-0", PLACE)
    missed = iter([True])  # the first listing met neither the old name nor the new
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: [] if next(missed, False) else listdir(path))
    assert [journal.writer for journal in journals(folder)] == [writer.name]
