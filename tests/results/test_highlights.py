"""What a follower tells beside counts: it agrees with the tables, however the rows came, and keeps little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scan_by_hand import END, GRID, PLACE, configuration, key_of, start_of, write_bundle, write_scan

from nnscan.identity import configuration_key
from nnscan.results import highlights, store
from nnscan.results.compaction import compact
from nnscan.results.folder import ScanFolder
from nnscan.results.highlights import KEPT_EPOCHS, Highlights, Thinned
from nnscan.results.journal import Cause, Writer
from nnscan.results.progress import Follower

ALL = [(point, fold) for point in GRID for fold in range(3)]


@pytest.fixture
def scan(tmp_path: Path) -> ScanFolder:
    return write_scan(tmp_path / "s")


def look(follower: Follower) -> Highlights:
    found = follower.poll().highlights
    assert found is not None
    return found


def seal_everything(scan: ScanFolder, cause: Cause = Cause.INTERRUPTED) -> None:
    store.close_journals(scan, lambda _: True, cause)


def end(writer: Writer, point: Any, fold: int, **changes: Any) -> None:
    writer.end({"trial": key_of(point, fold), **END, "score": 0.5, "seconds": 1.0, "epochs_run": 1, **changes})


def fail(writer: Writer, point: Any, fold: int, error: str, time: float = 1.0) -> None:
    writer.start(start_of(point, fold))
    end(writer, point, fold, status="failed", failure="config", error=error, score=None, time=time)


def test_without_being_asked_a_follower_tells_no_highlights(scan: ScanFolder) -> None:
    assert Follower(scan).poll().highlights is None


def test_an_untouched_scan_has_none(scan: ScanFolder) -> None:
    assert look(Follower(scan, details=True)) == Highlights(leaders=(), running=(), mishaps=())


def test_the_best_three_lead_with_what_varies_and_the_curve_of_their_best_trial(scan: ScanFolder) -> None:
    follower = Follower(scan, details=True)
    write_bundle(scan, "b1", [(point, fold, 0.1 * place + 0.01 * fold) for place, (point, fold) in enumerate(ALL[:12])])
    first, *others = look(follower).leaders
    point = GRID[3]  # trials 9, 10 and 11
    assert first.configuration == configuration_key(point)
    assert first.mean == pytest.approx(0.1 * 10 + 0.01)
    assert (first.scored, first.n, first.epoch, first.trial) == (3, 3, 1.0, key_of(point, 2))
    assert first.axes == {"model.width": point["model"]["width"], "optimizer.learning_rate": 0.001}
    assert first.curve.epochs == (0, 1)
    assert first.curve.values("val_accuracy") == pytest.approx([1.12 / 2, 1.12])
    assert [leader.configuration for leader in others] == [configuration_key(point) for point in (GRID[2], GRID[1])]


def test_a_complete_configuration_leads_before_one_that_lacks_a_score(scan: ScanFolder) -> None:
    write_bundle(scan, "b1", [(GRID[0], 0, 0.9), *((GRID[1], fold, 0.5) for fold in range(3))])
    leaders = look(Follower(scan, details=True)).leaders
    assert [(leader.configuration, leader.scored) for leader in leaders] == [
        (configuration_key(GRID[1]), 3),
        (configuration_key(GRID[0]), 1),
    ]


@pytest.mark.parametrize("compacted", [False, True], ids=["sealed", "compacted"])
def test_a_sealed_scan_tells_what_its_journals_told(scan: ScanFolder, compacted: bool) -> None:
    writer = write_bundle(scan, "b1", [(point, fold, 0.1 * place) for place, (point, fold) in enumerate(ALL[:9])])
    fail(writer, GRID[4], 0, "ValueError: no")
    follower = Follower(scan, details=True)
    before = look(follower)
    seal_everything(scan)
    if compacted:
        compact(scan)
    after = look(Follower(scan, details=True))
    assert look(follower) == before
    for old, new in zip(before.leaders, after.leaders, strict=True):
        assert (new.configuration, new.trial, new.epoch, new.axes) == (
            old.configuration,
            old.trial,
            old.epoch,
            old.axes,
        )
        assert new.curve.epochs == old.curve.epochs
        assert new.curve.values("val_loss") == old.curve.values("val_loss")
    assert [(one.trial, one.error) for one in after.mishaps] == [(one.trial, one.error) for one in before.mishaps]


def test_trials_in_training_tell_their_curve_so_far(scan: ScanFolder) -> None:
    follower = Follower(scan, details=True)
    writer = Writer(scan, "b1", PLACE)
    writer.start({**start_of(GRID[0], 1), "attempt": 2})
    assert look(follower).running[0].curve.epochs == ()
    for epoch in range(3):
        metrics = {"val_loss": 1.0 / (1 + epoch)}
        writer.epoch({"trial": key_of(GRID[0], 1), "epoch": epoch, "metrics": metrics})
        writer.steps({"trial": key_of(GRID[0], 1), "epoch": epoch, "values": {"loss": [7.0]}})
    (one,) = look(follower).running
    assert (one.family, one.fold, one.attempt, one.epochs) == ("MLP", 1, 2, 2)
    assert one.curve.values("val_loss") == [1.0, 0.5, 1 / 3]
    assert np.isnan(one.curve.values("train_loss")).all()
    end(writer, GRID[0], 1)
    assert look(follower).running == ()


def test_trials_trained_together_are_told_apart(scan: ScanFolder) -> None:
    writer = Writer(scan, "b1", PLACE)
    for fold in range(2):
        writer.start(start_of(GRID[0], fold))
    for epoch in range(4):
        for fold in range(2):
            row = {"trial": key_of(GRID[0], fold), "epoch": epoch, "metrics": {"val_loss": 10.0 * fold + epoch}}
            writer.epoch(row)
    told = {one.fold: one.curve.values("val_loss") for one in look(Follower(scan, details=True)).running}
    assert told == {0: [0, 1, 2, 3], 1: [10, 11, 12, 13]}


def test_a_trial_whose_journal_was_taken_away_is_in_training_no_more(scan: ScanFolder) -> None:
    follower = Follower(scan, details=True)
    Writer(scan, "b1", PLACE).start(start_of(GRID[0], 0))
    assert len(look(follower).running) == 1
    seal_everything(scan)
    assert look(follower).running == ()


def test_failures_come_the_latest_first_and_go_when_the_trial_succeeds(scan: ScanFolder) -> None:
    follower = Follower(scan, details=True)
    writer = Writer(scan, "b1", PLACE)
    for index in range(3):
        fail(writer, GRID[index], 0, f"ValueError: {index}", time=100.0 + index)
    writer.start(start_of(GRID[3], 0))
    end(writer, GRID[3], 0, status="diverged", score=None, epochs_run=4, time=50.0)
    assert [one.error for one in look(follower).mishaps] == [
        *("ValueError: 2", "ValueError: 1", "ValueError: 0"),
        "a loss became NaN or infinite in epoch 4",
    ]
    writer.start(start_of(GRID[1], 0))
    end(writer, GRID[1], 0)
    assert [one.error for one in look(follower).mishaps][:2] == ["ValueError: 2", "ValueError: 0"]


def test_a_lost_trial_that_is_run_again_went_not_wrong(scan: ScanFolder) -> None:
    Writer(scan, "b1", PLACE).start(start_of(GRID[0], 0))
    Writer(scan, "b2", PLACE).start({**start_of(GRID[1], 0), "attempt": 3})
    seal_everything(scan, Cause.LOST)
    (one,) = look(Follower(scan, details=True)).mishaps
    assert (one.trial, one.failure) == (key_of(GRID[1], 0), "lost")


def test_what_is_kept_is_bounded(scan: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(highlights, "KEPT_ENDED", 4)
    monkeypatch.setattr(highlights, "KEPT_FAILURES", 3)
    follower = Follower(scan, details=True)
    writer = write_bundle(scan, "b1", [(point, fold, 0.5) for point, fold in ALL[:10]])
    for point, fold in ALL[10:]:
        fail(writer, point, fold, "ValueError: no")
    writer.start(start_of(configuration(width=9), 0))
    for epoch in range(5000):
        writer.epoch({"trial": key_of(configuration(width=9)), "epoch": epoch, "metrics": {"val_loss": float(epoch)}})
    found = look(follower)
    details = follower._details
    assert details is not None
    assert (len(details._ended), len(details._mishaps), len(details._curves)) == (4, 3, 3)
    (one,) = found.running
    assert KEPT_EPOCHS / 2 < len(one.curve.epochs) <= KEPT_EPOCHS + 1
    assert (one.curve.epochs[0], one.curve.epochs[-1]) == (0, 4999)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 66, 127, 128, 129, 130, 1000, 1024, 1025])
def test_a_thinned_sequence_is_even_and_has_both_ends(count: int) -> None:
    thinned = Thinned[int]()
    for number in range(count):
        thinned.append(number)
    kept = thinned.elements()
    steps = np.diff(kept)
    assert kept[:1] == list(range(count))[:1]
    assert kept[-1:] == list(range(count))[-1:]
    assert len(kept) <= KEPT_EPOCHS + 1
    assert len(set(steps[:-1])) <= 1
    assert count <= KEPT_EPOCHS or len(kept) > KEPT_EPOCHS / 2


def test_a_damaged_part_of_epochs_costs_the_curve_alone(scan: ScanFolder) -> None:
    write_bundle(scan, "b1", [(GRID[0], fold, 0.5) for fold in range(3)])
    seal_everything(scan)
    (part,) = scan.epochs.glob("*.parquet")
    part.write_bytes(b"PAR1")
    (leader,) = look(Follower(scan, details=True)).leaders
    assert (leader.mean, leader.curve.epochs) == (pytest.approx(0.5), ())


def test_curves_are_not_read_again_and_again(scan: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(scan, "b1", [(point, fold, 0.5) for point, fold in ALL])
    seal_everything(scan)
    reads: list[Any] = []
    read = store.read_epochs
    monkeypatch.setattr(store, "read_epochs", lambda *arguments: reads.append(arguments) or read(*arguments))
    follower = Follower(scan, details=True)
    for _ in range(5):
        look(follower)
    assert len(reads) == 1


@pytest.mark.parametrize("smallest", [False, True], ids=["largest", "smallest"])
def test_leaders_are_those_of_a_plain_sort(tmp_path: Path, smallest: bool) -> None:
    metric = "val_loss" if smallest else "val_accuracy"
    scan = write_scan(tmp_path / "s", metric=metric)
    random = np.random.default_rng(0)
    writer = Writer(scan, "b1", PLACE)
    means: dict[str, list[float]] = {}
    for point, fold in ALL:
        if random.random() < 0.8:
            score = float(random.random())
            writer.start(start_of(point, fold))
            end(writer, point, fold, metric=metric, score=score)
            means.setdefault(configuration_key(point), []).append(score)
    sign = 1 if smallest else -1
    expected = sorted(means, key=lambda key: (len(means[key]) < 3, sign * np.mean(means[key])))[:3]
    assert [leader.configuration for leader in look(Follower(scan, details=True)).leaders] == expected
