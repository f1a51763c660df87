"""Trackers get what the tables have, beside a launch and after it; workers know nothing of it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scan_by_hand import GRID, key_of, write_bundle, write_scan
from scans import DIGITS, TESTS, run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nnscan import tracking
from nnscan.errors import BusyError, DataError, ScanError, StoreError
from nnscan.results import store
from nnscan.results.feed import Track
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause
from nnscan.scan import read
from nnscan.trackers import scalars
from nnscan.trackers.tensorboard import TensorBoard
from nnscan.tracking import Tracking, TrackOptions

BOARD = TrackOptions(tensorboard=True)
ALL = [(point, fold) for point in GRID for fold in range(3)]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)
    monkeypatch.setattr(tracking, "POLL_SECONDS", 0.05)


@pytest.fixture
def scan(tmp_path: Path) -> ScanFolder:
    return write_scan(tmp_path / "s")


def runs(home: Path) -> dict[str, dict[tuple[str, int], float]]:
    """Return the scalars of each run, by tag and step, those of its end left out; twice the same is an error."""
    found = {}
    for folder in sorted(path.parent for path in home.rglob("*.nnscan")):
        reader = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
        events = [(tag, event) for tag in reader.Tags()["scalars"] for event in reader.Scalars(tag)]
        counts = Counter((tag, event.step) for tag, event in events)
        assert max(counts.values(), default=1) == 1
        of_end = ("score", "test_loss", "test_accuracy")
        found[folder.name] = {(tag, event.step): event.value for tag, event in events if tag not in of_end}
    return found


def stored(folder: ScanFolder) -> dict[str, dict[tuple[str, int], float]]:
    """Return the same of the table of epochs."""
    found: dict[str, dict[tuple[str, int], float]] = {}
    for row in store.read_epochs(folder).to_pylist():
        prefix = "retrained-" if row["kind"] == "retraining" else ""
        numbers = {name: value for name, value in row.items() if name not in ("fold", "replicate", "epoch", "attempt")}
        run = found.setdefault(f"{prefix}{row['trial'][:12]}", {})
        run.update({(tag, row["epoch"]): pytest.approx(value) for tag, value in scalars(numbers)})
    return found


def test_what_tensorboard_reads_is_what_the_table_has(tmp_path: Path) -> None:
    folder = run(read(DIGITS), tmp_path).folder
    assert tracking.track(folder, BOARD) == (6, [f"Look at it with: tensorboard --logdir {folder.tensorboard}"])
    assert runs(folder.tensorboard) == stored(folder)
    assert {path.name for path in folder.tensorboard.iterdir()} == {".lock", "Narrow", "Wide"}
    assert len(runs(folder.tensorboard)) == 6


def test_beside_a_launch_all_is_tracked_in_its_process_and_only_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polled: list[str] = []
    poll = Tracking.poll

    def noted(self: Tracking) -> None:
        polled.append(threading.current_thread().name)
        poll(self)

    monkeypatch.setattr(Tracking, "poll", noted)
    scan = read(DIGITS)
    with tracking.followed(ScanFolder(tmp_path / "scans" / scan.name), BOARD) as result:
        outcome = run(scan, tmp_path)
    assert result.error == ""
    assert runs(outcome.folder.tensorboard) == stored(outcome.folder)
    assert len(polled) >= 2
    assert threading.main_thread().name not in polled


def test_workers_import_nothing_of_it() -> None:
    code = (
        "import nnscan.worker, nnscan.attempt, nnscan.ranks.guest, sys;"
        "print(sorted(name for name in sys.modules if 'track' in name and 'nnscan' in name or 'tensorboard' in name))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_second_time_changes_no_byte_and_a_later_launch_adds_its_trials(tmp_path: Path) -> None:
    scan = read(DIGITS)
    folder = run(scan, tmp_path, limit=4).folder
    tracking.track(folder, BOARD)
    before = {path: path.read_bytes() for path in folder.tensorboard.rglob("*.nnscan")}
    tracking.track(folder, BOARD)
    assert {path: path.read_bytes() for path in folder.tensorboard.rglob("*.nnscan")} == before
    run(scan, tmp_path)
    tracking.track(folder, BOARD)
    after = {path: path.read_bytes() for path in folder.tensorboard.rglob("*.nnscan")}
    assert before.items() <= after.items()
    assert runs(folder.tensorboard) == stored(folder)


def test_a_launch_that_starts_nothing_leaves_no_folder(tmp_path: Path) -> None:
    scan = read(
        DIGITS.replace('name = "digits"\n[validation]', 'name = "mnist"\n[validation]'), data_root=str(tmp_path)
    )
    folder = ScanFolder(tmp_path / "scans" / scan.name)
    with pytest.raises(DataError), tracking.followed(folder, BOARD) as result:
        run(scan, tmp_path)
    assert not folder.path.exists()
    assert (result.error, result.lines) == ("", [])


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(StoreError("the disk is full"), "the disk is full"), (ValueError("no such run"), "ValueError: no such run")],
    ids=["of nnscan", "of a tracker's package"],
)
def test_trouble_with_tracking_leaves_the_launch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception, told: str
) -> None:
    def refuse(self: TensorBoard, track: Track) -> None:
        raise trouble

    monkeypatch.setattr(TensorBoard, "take", refuse)
    scan = read(DIGITS)
    with tracking.followed(ScanFolder(tmp_path / "scans" / scan.name), BOARD) as result:
        outcome = run(scan, tmp_path)
    assert (outcome.exit_code, result.error) == (0, told)


def test_two_do_not_write_the_same(scan: ScanFolder) -> None:
    with tracking.tracked(scan, BOARD), pytest.raises(BusyError, match="is written by another nnscan"):
        tracking.track(scan, BOARD)
    tracking.track(scan, BOARD)


def test_files_go_where_they_are_asked_to(scan: ScanFolder, tmp_path: Path) -> None:
    write_bundle(scan, "b1", [(*ALL[0], 0.5)])
    home = tmp_path / "else where"
    _, (hint,) = tracking.track(scan, TrackOptions(tensorboard=True, to=home))
    assert hint == f"Look at it with: tensorboard --logdir '{home}'"
    assert len(runs(home)) == 1
    assert not scan.tensorboard.exists()


def test_the_best_configurations_alone_can_be_tracked(scan: ScanFolder) -> None:
    write_bundle(scan, "b1", [(*one, 0.1 * place) for place, one in enumerate(ALL)])
    tracking.track(scan, TrackOptions(tensorboard=True, top=2))
    best = {key_of(*one)[:12] for one in ALL[-6:]}
    assert set(runs(scan.tensorboard)) == best


def test_too_many_are_refused_before_anything_is_written(scan: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorBoard, "most", 17)
    with pytest.raises(ScanError, match=r"--tensorboard: 18 trials are more than the 17 runs .* --top N"):
        tracking.track(scan, BOARD)
    assert not scan.tensorboard.exists()


def test_an_unknown_family_is_refused(scan: ScanFolder) -> None:
    with pytest.raises(ScanError, match=r"--family: found 'MPL'\. Did you mean 'MLP'"):
        tracking.track(scan, TrackOptions(tensorboard=True, families=("MPL",)))


def test_another_plan_is_tracked_from_its_launch_on(scan: ScanFolder) -> None:
    write_scan(scan.path, GRID[:2])
    write_bundle(scan, "b1", [(*one, 0.5) for one in ALL[:6]])
    with tracking.tracked(scan, BOARD) as tracked:
        tracked.poll()
        assert tracked.trials == 6
        write_scan(scan.path, GRID)
        write_bundle(scan, "b2", [(*one, 0.5) for one in ALL[6:]])
        tracked.poll()
        assert tracked.trials == 18
    assert len(runs(scan.tensorboard)) == 18


@pytest.fixture
def killed(scan: ScanFolder) -> Iterator[ScanFolder]:
    """A scan whose tracking was cut off within a record."""
    write_bundle(scan, "b1", [(*one, 0.5) for one in ALL[:3]])
    tracking.track(scan, BOARD)
    for path in scan.tensorboard.rglob("*.nnscan"):
        path.write_bytes(path.read_bytes()[:-7])
    yield scan


def test_a_tracking_that_was_killed_is_mended(killed: ScanFolder) -> None:
    store.close_journals(killed, lambda _: True, Cause.INTERRUPTED)
    tracking.track(killed, BOARD)
    assert runs(killed.tensorboard) == stored(killed)


def test_it_is_paced(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(tracking.time, "monotonic", lambda: now[0])
    polls: list[float] = []

    class Noted:
        def poll(self) -> None:
            polls.append(now[0])

    noted: Any = Noted()
    paced = tracking.Paced(noted)
    for tenth in range(0, 10):
        now[0] = 100.0 + 0.01 * tenth
        paced()
    assert polls == [100.0, pytest.approx(100.05)]


def test_tracking_is_imported_with_neither_torch_nor_tensorboard() -> None:
    code = "import nnscan.tracking, sys; print(sorted({'torch', 'ray', 'tensorboard', 'wandb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
