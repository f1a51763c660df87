"""What whoever follows a feed ends up with is what the tables have, however attempts, seals and looks interleave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_by_hand import END, GRID, PLACE, configuration, key_of, plan_of, start_of, write_bundle, write_scan

from nnscan.results import store
from nnscan.results.compaction import compact
from nnscan.results.feed import Feed, Selection, Track, selected
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer
from nnscan.trial import Kind

ALL = [(point, fold) for point in GRID for fold in range(3)]
EVERYTHING = Selection(frozenset(key_of(*one) for one in ALL), frozenset({"MLP"}))


@pytest.fixture
def scan(tmp_path: Path) -> ScanFolder:
    return write_scan(tmp_path / "s")


def begin(scan: ScanFolder, bundle: str = "b1", which: int = 0, **more: Any) -> Writer:
    writer = Writer(scan, bundle, PLACE)
    writer.start({**start_of(*ALL[which]), **more})
    return writer


def train(writer: Writer, epochs: range, mark: float = 0.0, which: int = 0) -> None:
    for epoch in epochs:
        metrics = {"val_loss": mark + epoch, "val_class_accuracy": [0.5, mark]}
        writer.epoch({"trial": key_of(*ALL[which]), "epoch": epoch, "metrics": metrics})


def end(writer: Writer, which: int = 0, **changes: Any) -> None:
    writer.end({"trial": key_of(*ALL[which]), **END, "score": 0.5, "seconds": 2.0, "epochs_run": 1, **changes})


def losses(track: Track) -> list[float]:
    return [metrics["val_loss"] for metrics in track.epochs.values()]


def test_a_trial_is_told_whole_each_time_something_is_new(scan: ScanFolder) -> None:
    feed = Feed(scan, EVERYTHING)
    writer = begin(scan)
    assert [losses(track) for track in feed.poll()] == [[]]
    assert list(feed.poll()) == []
    train(writer, range(2))
    (track,) = feed.poll()
    assert (losses(track), track.is_over, track.family, track.settings) == ([0, 1], False, "MLP", GRID[0])
    train(writer, range(2, 3))
    end(writer)
    (track,) = feed.poll()
    assert (losses(track), track.end["status"], track.end["score"]) == ([0, 1, 2], "completed", 0.5)
    writer.close()
    store.seal_all(scan)
    compact(scan)
    assert list(feed.poll()) == []


@pytest.mark.parametrize("compacted", [False, True], ids=["sealed", "compacted"])
def test_what_is_stored_is_told_as_its_journal_told_it(scan: ScanFolder, compacted: bool) -> None:
    writer = begin(scan, time=1.5e9)
    train(writer, range(3))
    end(writer, time=1.5e9 + 7)
    (before,) = Feed(scan, EVERYTHING).poll()
    writer.close()
    store.seal_all(scan)
    if compacted:
        compact(scan)
    (after,) = Feed(scan, EVERYTHING).poll()
    assert (after.writer, after.started, after.settings, after.epochs) == (
        *(before.writer, before.started, before.settings),
        before.epochs,
    )
    for name in ("status", "score", "best_epoch", "ended"):
        assert after.end[name] == before.end[name]


def test_epochs_of_what_is_known_are_not_read(scan: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(scan, "b1", [(*one, 0.5) for one in ALL[:3]])
    store.close_journals(scan, lambda _: True, Cause.INTERRUPTED)
    asked: list[Any] = []
    read = store.read_epochs
    monkeypatch.setattr(store, "read_epochs", lambda folder, trials: asked.append(list(trials)) or read(folder, trials))
    known = key_of(*ALL[1])
    told = [track.trial for track in Feed(scan, EVERYTHING).poll(lambda track: track.trial == known)]
    assert sorted(told) == sorted(key_of(*one) for one in (ALL[0], ALL[2]))
    assert [sorted(one) for one in asked] == [sorted(told)]


def test_a_resumed_attempt_is_told_from_its_first_epoch(scan: ScanFolder) -> None:
    feed = Feed(scan, EVERYTHING)
    train(begin(scan, "b1", time=1.0), range(3))
    (first,) = feed.poll()
    store.close_journals(scan, lambda _: True, Cause.INTERRUPTED)
    assert list(feed.poll()) == []
    writer = begin(scan, "b2", time=2.0)
    train(writer, range(4), mark=10.0)
    (second,) = feed.poll()
    assert losses(second) == [10, 11, 12, 13]
    assert second.writer != first.writer


def test_of_two_attempts_that_end_the_earlier_success_is_told(scan: ScanFolder) -> None:
    feed = Feed(scan, EVERYTHING)
    late, early = begin(scan, "b1", time=1.0), begin(scan, "b2", time=2.0)
    train(late, range(2))
    train(early, range(2), mark=10.0)
    assert [losses(track) for track in feed.poll()] == [[10, 11]]  # the one that began last
    end(late, time=20.0)
    assert [losses(track) for track in feed.poll()] == [[0, 1]]
    end(early, time=10.0)
    assert [losses(track) for track in feed.poll()] == [[10, 11]]
    assert store.read_epochs(scan)["val_loss"].to_pylist() == [10, 11]


def test_a_failure_is_told_then_the_retry_then_its_success(scan: ScanFolder) -> None:
    feed = Feed(scan, EVERYTHING)
    writer = begin(scan)
    end(writer, status="failed", failure="config", error="no", score=None)
    assert [track.end["status"] for track in feed.poll()] == ["failed"]
    writer.close()
    store.seal_all(scan)
    again = begin(scan, "b2", attempt=2)
    assert [(track.is_over, track.attempt) for track in feed.poll()] == [(False, 2)]
    end(again)
    assert [track.end["status"] for track in feed.poll()] == ["completed"]


def test_a_failure_is_told_again_where_its_retry_was_interrupted(scan: ScanFolder) -> None:
    feed = Feed(scan, EVERYTHING)
    writer = begin(scan)
    train(writer, range(2))
    end(writer, status="failed", failure="config", error="no", score=None)
    assert len(list(feed.poll())) == 1
    writer.close()
    store.seal_all(scan)
    train(begin(scan, "b2", attempt=2), range(1), mark=10.0)
    assert [losses(track) for track in feed.poll()] == [[10]]
    store.close_journals(scan, lambda _: True, Cause.INTERRUPTED)
    assert [(losses(track), track.writer) for track in feed.poll()] == [([0, 1], writer.name)]
    assert list(feed.poll()) == []


def test_a_success_is_not_replaced_by_a_zombie_that_goes_on(scan: ScanFolder) -> None:
    feed = Feed(scan, EVERYTHING)
    zombie, writer = begin(scan, "b1", time=9.0), begin(scan, "b2", time=1.0)
    end(writer)
    assert [track.writer for track in feed.poll()] == [writer.name]
    train(zombie, range(3))
    assert list(feed.poll()) == []
    end(zombie, status="failed", score=None)
    assert list(feed.poll()) == []


def test_what_is_not_selected_is_not_told(scan: ScanFolder) -> None:
    write_bundle(scan, "b1", [(configuration(width=9), 0, 0.5), (*ALL[0], 0.5), (*ALL[1], 0.5)])
    only = Selection(frozenset({key_of(*ALL[1])}))
    assert [track.trial for track in Feed(scan, only).poll()] == [key_of(*ALL[1])]
    store.close_journals(scan, lambda _: True, Cause.INTERRUPTED)
    assert [track.trial for track in Feed(scan, only).poll()] == [key_of(*ALL[1])]


@pytest.mark.parametrize("sealed", [False, True])
def test_retrainings_of_a_family_are_told(scan: ScanFolder, sealed: bool) -> None:
    key = key_of(GRID[0], kind=Kind.RETRAINING, epochs=7)
    writer = Writer(scan, "r1", PLACE)
    writer.start({**start_of(GRID[0], 0), "trial": key, "kind": "retraining"})
    writer.end({"trial": key, **END, "test_accuracy": 0.75})
    if sealed:
        writer.close()
        store.seal_all(scan)
    (track,) = Feed(scan, EVERYTHING).poll()
    assert (track.kind, track.end["test_accuracy"]) == ("retraining", 0.75)
    assert list(Feed(scan, Selection(frozenset(), frozenset({"CNN"}))).poll()) == []


def test_families_and_configurations_select() -> None:
    plan = plan_of({"all": GRID, "first": GRID[:1]}, folds=2)
    assert len(selected(plan).keys) == 12
    assert selected(plan, ["first"]).keys == {key_of(GRID[0], 0), key_of(GRID[0], 1)}
    assert selected(plan, ["first"]).families == {"first"}
    chosen = plan["configuration"].to_pylist()[2]
    assert selected(plan, configurations=[chosen]).keys == {key_of(GRID[1], 0), key_of(GRID[1], 1)}


@pytest.mark.parametrize("seed", range(5))
def test_whoever_follows_ends_up_with_the_tables(scan: ScanFolder, seed: int) -> None:
    """Writers, zombies, losses, seals and compactions at random; followers that look now and then, and a late one."""
    random = np.random.default_rng(seed)
    followers = [(Feed(scan, EVERYTHING), dict[str, Track]()) for _ in range(2)]
    writers: list[tuple[Writer, int]] = []
    for step in range(40):
        _act(scan, random, writers, step)
        for feed, seen in followers:
            if random.random() < 0.4:
                seen.update((track.trial, track) for track in feed.poll())
    store.close_journals(scan, lambda _: True, Cause.INTERRUPTED)
    followers.append((Feed(scan, EVERYTHING), {}))
    for feed, seen in followers:
        seen.update((track.trial, track) for track in feed.poll())
        _agrees(scan, seen)


def _act(scan: ScanFolder, random: np.random.Generator, writers: list[tuple[Writer, int]], step: int) -> None:
    match random.choice(["begin", "begin", "epoch", "epoch", "end", "end", "close", "lose", "compact"]):
        case "begin":
            which = int(random.integers(4))
            writers.append((begin(scan, f"b{random.integers(3)}", which, time=float(step), attempt=3), which))
        case "epoch" if writers:
            writer, which = random.choice(writers)  # type: ignore[arg-type]
            train(writer, range(int(random.integers(4))), mark=float(step), which=int(which))
        case "end" if writers:
            writer, which = writers.pop(int(random.integers(len(writers))))
            status = random.choice(["completed", "diverged", "failed"])
            end(writer, which, status=str(status), failure="config" if status == "failed" else "", time=float(step))
        case "close" | "lose" as how:
            cause = Cause.LOST if how == "lose" else Cause.INTERRUPTED
            store.close_journals(scan, lambda name: name == f"b{step % 3}", cause)
        case "compact":
            compact(scan)
    writers[:] = [one for one in writers if not one[0].closed()]


def _agrees(scan: ScanFolder, seen: dict[str, Track]) -> None:
    rows = {row["trial"]: row for row in store.read_trials(scan, ["trial", "writer", "status"]).to_pylist()}
    told = {trial: track for trial, track in seen.items() if track.is_over or trial in rows}
    assert {trial: (track.writer, track.end["status"]) for trial, track in told.items()} == {
        trial: (row["writer"], row["status"]) for trial, row in rows.items()
    }
    table = store.read_epochs(scan, columns=["trial", "epoch", "val_loss"]).to_pylist()
    told_rows = {(one.trial, epoch): row["val_loss"] for one in told.values() for epoch, row in one.epochs.items()}
    assert told_rows == {(row["trial"], row["epoch"]): row["val_loss"] for row in table}
