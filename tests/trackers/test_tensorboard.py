"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from nnscan.results.feed import Track
from nnscan.trackers import run_name, scalars
from nnscan.trackers.tensorboard import OWN, TensorBoard, records

SETTINGS = {
    "model": {"name": "cnn", "channels": [8, 16], "batch_norm": True},
    "optimizer": {"learning_rate": 0.01},
    "training": {"epochs": 3},
}
VARIED = ("model.channels", "model.batch_norm", "optimizer.learning_rate")


def metrics(epoch: int, mark: float = 0.0) -> dict[str, Any]:
    row = {"val_loss": mark + epoch, "val_class_accuracy": [0.25, 0.5], "learning_rate": 0.5, "epoch_seconds": 2.0}
    return {**row, "train_loss": float(epoch)} if epoch else row


def track(epochs: int, writer: str = "a" * 16, mark: float = 0.0, **more: Any) -> Track:
    known = {
        "trial": "4f1c09ab" * 4,
        "configuration": "8f3a2b1c" * 4,
        "family": "MLP",
        "kind": "trial",
        "fold": 0,
        "replicate": 0,
        "attempt": 1,
        "writer": writer,
        "started": 1.7e9,
        "settings": SETTINGS,
        "epochs": {epoch: metrics(epoch, mark) for epoch in range(epochs)},
    }
    return Track(**{**known, **more})


END = {"status": "completed", "score": 0.875, "best_epoch": 1, "ended": 1.7e9 + 9}


def read(folder: Path, one: Track) -> EventAccumulator:
    return EventAccumulator(str(folder / run_name(one))).Reload()


def values(folder: Path, one: Track, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder, one).Scalars(tag)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob(f"*{OWN}")}


def test_epochs_are_scalars_at_their_steps(tmp_path: Path) -> None:
    one = track(3)
    TensorBoard(tmp_path).take(one)
    assert values(tmp_path, one, "val_loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert values(tmp_path, one, "train_loss") == [(1, 1.0), (2, 2.0)]
    assert values(tmp_path, one, "val_class_accuracy/1") == [(0, 0.5), (1, 0.5), (2, 0.5)]
    assert [event.wall_time for event in read(tmp_path, one).Scalars("val_loss")] == [1.7e9 + 2, 1.7e9 + 4, 1.7e9 + 6]


def test_a_run_is_named_by_family_and_key() -> None:
    assert run_name(track(0)) == "MLP/4f1c09ab4f1c"
    assert run_name(track(0, kind="retraining")) == "MLP/retrained-4f1c09ab4f1c"


@pytest.mark.parametrize("again", [False, True], ids=["one process", "another each time"])
def test_what_is_written_is_not_written_again(tmp_path: Path, again: bool) -> None:
    board = TensorBoard(tmp_path)
    steps = (track(1), track(3), track(3), track(5, end=END), track(5, end=END))
    for one in steps:
        board = TensorBoard(tmp_path) if again else board
        assert board.has(one) == (one is steps[-1])
        board.take(one)
    TensorBoard(tmp_path / "once").take(track(5, end=END))
    first, second = files(tmp_path).values()
    assert first == second


def test_another_attempt_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.take(track(5))
    for one in (track(2, "b" * 16, mark=10.0, started=1.7e9 + 60), track(3, "b" * 16, mark=10.0, started=1.7e9 + 60)):
        board.take(one)
    assert values(tmp_path, one, "val_loss") == [(0, 10.0), (1, 11.0), (2, 12.0)]
    assert sorted(map(bool, files(tmp_path).values())) == [False, True]


def test_a_reader_that_saw_the_attempt_before_drops_it(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path)
    board.take(track(5))
    reader = read(tmp_path, track(5))
    assert len(reader.Scalars("val_loss")) == 5
    board.take(track(2, "b" * 16, mark=10.0, started=1.7e9 + 60))
    reader.Reload()
    assert [event.value for event in reader.Scalars("val_loss")] == [10.0, 11.0]


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_half_a_record_is_written_anew(tmp_path: Path, cut: int) -> None:
    TensorBoard(tmp_path).take(track(3))
    (path,) = tmp_path.rglob(f"*{OWN}")
    path.write_bytes(path.read_bytes()[:-cut])
    TensorBoard(tmp_path).take(track(4, end=END))
    assert values(tmp_path, track(4), "val_loss") == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"garbage" * 30], ids=["empty", "zeros", "garbage"])
def test_a_damaged_file_is_written_anew(tmp_path: Path, content: bytes) -> None:
    TensorBoard(tmp_path).take(track(3))
    (path,) = tmp_path.rglob(f"*{OWN}")
    path.write_bytes(content)
    TensorBoard(tmp_path).take(track(3))
    assert values(tmp_path, track(3), "val_loss") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "MLP" / "4f1c09ab4f1c" / "events.out.tfevents.1.other"
    other.parent.mkdir(parents=True)
    other.touch()
    TensorBoard(tmp_path).take(track(1))
    assert other.exists()


def test_every_record_has_the_checksum_that_tensorboard_asks_for(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    TensorBoard(tmp_path).take(track(4, end=END))
    (path,) = tmp_path.rglob(f"*{OWN}")
    assert list(RawEventFileLoader(str(path)).Load()) == [data for data, _ in records(path.read_bytes())]


def test_hyperparameters_that_vary_are_shown_by_configuration(tmp_path: Path) -> None:
    one = track(2, end=END)
    TensorBoard(tmp_path, VARIED).take(one)
    told = read(tmp_path, one).PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(told["_hparams_/session_start_info"])
    assert start.group_name == one.configuration
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()} == {
        "family": "MLP",
        "kind": "trial",
        "model.channels": "[8, 16]",
        "model.batch_norm": True,
        "optimizer.learning_rate": 0.01,
    }
    assert values(tmp_path, one, "score") == [(1, 0.875)]


@pytest.mark.parametrize(
    ("status", "told"), [("completed", "STATUS_SUCCESS"), ("failed", "STATUS_FAILURE"), ("diverged", "STATUS_FAILURE")]
)
def test_the_end_of_a_session_is_told(tmp_path: Path, status: str, told: str) -> None:
    from tensorboard.plugins.hparams import api_pb2

    one = track(1, end={**END, "status": status, "score": None, "best_epoch": None})
    TensorBoard(tmp_path).take(one)
    content = read(tmp_path, one).PluginTagToContent("hparams")["_hparams_/session_end_info"]
    end = metadata.parse_session_end_info_plugin_data(content)
    assert (api_pb2.Status.Name(end.status), end.end_time_secs) == (told, 1.7e9 + 9)


def test_a_trial_that_failed_before_its_first_epoch_is_a_run(tmp_path: Path) -> None:
    one = track(0, end={"status": "failed", "ended": None}, settings={})
    TensorBoard(tmp_path).take(one)
    assert TensorBoard(tmp_path).has(replace(one, epochs={}))


def test_numbers_alone_are_scalars() -> None:
    row = {"a": 1, "b": float("inf"), "c": "x", "d": None, "e": [0.5, None, 0.25], "f": True}
    assert list(scalars(row)) == [("a", 1.0), ("b", float("inf")), ("e/0", 0.5), ("e/2", 0.25), ("f", 1.0)]


PROGRAM = """
import sys
from pathlib import Path
from nnscan.results.feed import Track
from nnscan.trackers.tensorboard import TensorBoard
one = Track(trial="4" * 32, configuration="c", family="F", kind="trial", fold=0, replicate=0, attempt=1, writer="w",
            started=1.0, settings={"a": {"b": 1}}, epochs={0: {"val_loss": 1.0}}, end={"status": "completed"})
TensorBoard(Path(sys.argv[1]), ["a.b"]).take(one)
print(sorted({"tensorflow", "torch", "ray", "grpc"} & set(sys.modules)))
"""


def test_writing_imports_neither_tensorflow_nor_torch(tmp_path: Path) -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
    assert len(files(tmp_path)) == 1
