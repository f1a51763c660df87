"""Weights & Biases: what a stand-in for it is sent, and what the package itself writes offline, read back."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from scan_by_hand import GRID, key_of, write_bundle, write_scan

from nnscan import tracking
from nnscan.errors import LauncherError, ScanError
from nnscan.results.feed import Track
from nnscan.results.folder import ScanFolder
from nnscan.trackers.wandb import WeightsAndBiases
from nnscan.tracking import TrackOptions

KEY = "4f1c09ab" * 4
END = {"status": "completed", "score": 0.875, "best_epoch": 1, "ended": 9.0}


def track(epochs: int, writer: str = "a", mark: float = 0.0, **more: Any) -> Track:
    rows = {epoch: {"val_loss": mark + epoch, "val_class_accuracy": [0.25, 0.5]} for epoch in range(epochs)}
    known = {"trial": KEY, "configuration": "c", "family": "MLP", "kind": "trial", "fold": 1, "replicate": 0}
    more = {"attempt": 1, "started": 1.0, "settings": {"model": {"width": 8}}, "epochs": rows, **more}
    return Track(writer=writer, **known, **more)


class Run:
    """Notes what is done to a run; on the server an id that comes again without `resume` begins anew."""

    def __init__(self, server: dict[str, Run], **words: Any) -> None:
        self.words = words
        known = server.get(words["id"]) if words["resume"] == "allow" else None
        self.rows: list[tuple[int, dict[str, float]]] = known.rows if known else []
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.open = True
        server[words["id"]] = self

    def log(self, row: dict[str, float], step: int) -> None:
        assert self.open
        assert not self.rows or step > self.rows[-1][0]  # W&B drops what comes late
        self.rows.append((step, row))

    def finish(self, exit_code: int | None = None) -> None:
        self.open, self.exit_code = False, exit_code


class Server(SimpleNamespace):
    """What stands for the package wandb."""

    class Error(Exception):
        """As the package's."""

    def __init__(self, *, offline: bool = False, key: bool = True) -> None:
        self.runs: dict[str, Run] = {}
        self.begun: list[Any] = []
        self.offline, self.key = offline, key

    def setup(self) -> SimpleNamespace:
        return SimpleNamespace(settings=SimpleNamespace(_offline=self.offline))

    def login(self, *, prompt: bool) -> bool:
        assert not prompt
        return self.key

    def Settings(self, **settings: Any) -> dict[str, Any]:  # noqa: N802
        return settings

    def init(self, **words: Any) -> Run:
        self.begun.append(words["resume"])
        return Run(self.runs, **words)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setitem(sys.modules, "wandb", server)  # type: ignore[arg-type]
    return server


@pytest.fixture
def scan(tmp_path: Path) -> ScanFolder:
    return write_scan(tmp_path / "s")


def losses(server: Server) -> list[tuple[int, float]]:
    return [(step, row["val_loss"]) for step, row in server.runs[KEY].rows]


def test_a_trial_is_a_run_with_its_key_for_its_id(server: Server, scan: ScanFolder) -> None:
    WeightsAndBiases(scan, "us/digits", "small").take(track(2, end=END))
    run = server.runs[KEY]
    assert {name: run.words[name] for name in ("project", "entity", "name", "group", "tags")} == {
        "project": "digits",
        "entity": "us",
        "name": "MLP/4f1c09ab4f1c",
        "group": "MLP",
        "tags": ["small"],
    }
    assert run.words["config"] == {"model": {"width": 8}, "fold": 1, "replicate": 0, "family": "MLP"}
    rows = [{"val_loss": float(epoch), "val_class_accuracy/0": 0.25, "val_class_accuracy/1": 0.5} for epoch in (0, 1)]
    assert run.rows == list(enumerate(rows))
    assert (run.summary, run.exit_code) == ({"score": 0.875, "status": "completed"}, 0)


@pytest.mark.parametrize("again", [False, True], ids=["one process", "another each time"])
def test_what_was_sent_is_not_sent_again(server: Server, scan: ScanFolder, again: bool) -> None:
    tracker = WeightsAndBiases(scan, "p", "s")
    for one in (track(1), track(3), track(3), track(5, end=END), track(5, end=END)):
        tracker.take(one)
        tracker.flush()
        if again:
            tracker.close()
            tracker = WeightsAndBiases(scan, "p", "s")
    assert losses(server) == [(epoch, float(epoch)) for epoch in range(5)]
    assert tracker.has(track(0, end=END))
    assert server.begun == ([None, "allow", "allow", "allow"] if again else [None])


def test_another_attempt_overwrites_the_run(server: Server, scan: ScanFolder) -> None:
    tracker = WeightsAndBiases(scan, "p", "s")
    tracker.take(track(5))
    first = server.runs[KEY]
    tracker.take(track(2, "b", mark=10.0))
    assert not first.open
    assert losses(server) == [(0, 10.0), (1, 11.0)]
    assert server.begun == [None, None]


def test_offline_a_run_that_goes_on_is_written_whole_in_place_of_its_old(server: Server, scan: ScanFolder) -> None:
    server.offline = True
    old, other = (scan.wandb / f"offline-run-20260101_000000-{key}" for key in (KEY, "5" * 32))
    for epochs in (1, 3):
        for folder in (old, other):
            folder.mkdir(parents=True, exist_ok=True)
        tracker = WeightsAndBiases(scan, "p", "s")
        tracker.take(track(epochs))
        tracker.flush()
        tracker.close()
        assert (old.exists(), other.exists()) == (False, True)
    assert losses(server) == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert server.begun == [None, None]


def test_projects_have_memories_of_their_own(server: Server, scan: ScanFolder) -> None:
    for project in ("p", "q"):
        tracker = WeightsAndBiases(scan, project, "s")
        tracker.take(track(1, end=END))
        tracker.flush()
    assert len(server.begun) == 2


def test_a_failed_trial_is_a_failed_run(server: Server, scan: ScanFolder) -> None:
    WeightsAndBiases(scan, "p", "s").take(track(1, end={"status": "failed"}))
    assert (server.runs[KEY].exit_code, server.runs[KEY].summary) == (1, {"status": "failed"})


def test_what_goes_wrong_with_it_is_told(server: Server, scan: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise server.Error("no network")

    monkeypatch.setattr(server, "init", refuse, raising=False)
    with pytest.raises(LauncherError, match="W&B: no network"):
        WeightsAndBiases(scan, "p", "s").take(track(1))


def test_without_the_package_it_is_said_how_to_get_it(scan: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ScanError, match=r"wandb is not installed: pip install 'nnscan\[wandb\]'") as error:
        tracking.track(scan, TrackOptions(wandb="p"))
    assert error.value.exit_code == 2
    assert not scan.wandb.exists()


def test_without_a_key_nothing_starts(server: Server, scan: ScanFolder) -> None:
    server.key = False
    with pytest.raises(ScanError, match="W&B has no key here"):
        tracking.check(TrackOptions(wandb="p"), 1)
    server.offline = True
    tracking.check(TrackOptions(wandb="p"), 1)


def test_more_runs_than_can_be_looked_at_are_refused(server: Server) -> None:
    with pytest.raises(ScanError, match="--wandb: 1,001 trials are more than the 1,000 runs"):
        tracking.check(TrackOptions(wandb="p"), 1001)


# ---- the package itself, offline ----


def wandb_records(path: Path) -> Iterator[Any]:
    """Yield the records of a run's file: LevelDB's log format behind 7 bytes of W&B's own."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


def history(folder: Path, key: str) -> list[tuple[int, float]]:
    (path,) = folder.glob(f"wandb/offline-run-*-{key}/*.wandb")
    rows = []
    for record in wandb_records(path):
        if record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            rows.append((items["_step"], items["val_accuracy"]))
    return rows


def test_offline_runs_are_on_the_disk_and_single(scan: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    import wandb

    wandb.teardown()  # another test may have read the variables before
    point = GRID[0]
    write_bundle(scan, "b1", [(point, fold, 0.5) for fold in range(2)])
    options = TrackOptions(wandb="p")
    for _ in range(2):
        _, (hint,) = tracking.track(scan, options)
        assert hint.startswith("Written for the project p, not sent. Send it with: wandb sync ")
    wandb.teardown()
    for fold in range(2):
        assert history(scan.path, key_of(point, fold)) == [(0, 0.25), (1, 0.5)]
    assert len(list(scan.wandb.glob("offline-run-*"))) == 2
