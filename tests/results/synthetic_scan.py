"""Rows of made-up trials, as a worker writes them: for the tests of the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer
from nnscan.results.metric import METRICS
from nnscan.results.schema import Schemas, hyperparameters, write_schemas

PLACE = {
    "launch": "20260101-000000",
    "host": "node1",
    "device": "cpu",
    "threads": 1,
    "processes": 1,
    "fused": 1,
    "nnscan_version": "0.1.0",
    "torch_version": "2.6",
    "python_version": "3.11.2",
    "numerics": 1,
    "pid": 1,
}


def key(*content: Any) -> str:
    """32 hex digits."""
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def settings(number: int) -> dict[str, Any]:
    return {
        "model": {"name": "mlp", "width": 32 * (1 + number % 4), "channels": [8, 16]},
        "optimizer": {"name": "adam", "learning_rate": 10.0 ** -(1 + number % 3), "schedule": {"name": "constant"}},
        "training": {"epochs": 3},
    }


def start_row(number: int, attempt: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "trial": key("trial", number),
        "attempt": attempt,
        "configuration": key("configuration", number // 5),
        "families": ["MLP", "also"],
        "kind": "trial",
        "fold": number % 5,
        "replicate": 0,
        "epochs": 3,
        "settings": settings(number),
        "time": 1_767_225_600.0 + number,
        "data_fingerprint": "d0",
        "code_fingerprint": "c0",
        **more,
    }


def metrics(number: int, epoch: int, mark: float = 0.0) -> dict[str, Any]:
    """Known values of every metric; `mark` tells attempts apart."""
    accuracy = (number % 100 + epoch) / 200
    values = {
        "train_loss": 2.0 - epoch,
        "train_accuracy": accuracy,
        "val_loss": 2.5 - epoch,
        "val_accuracy": accuracy,
        "val_class_accuracy": [accuracy, 1.0],
        "learning_rate": 0.1 + mark,
        "examples_per_second": 1e4,
        "epoch_seconds": 0.5,
    }
    return values if epoch else {name: value for name, value in values.items() if not name.startswith("train")}


def end_row(number: int, status: str = "completed", epochs: int = 2, mark: float = 0.0, **more: Any) -> dict[str, Any]:
    return {
        "trial": key("trial", number),
        "status": status,
        "failure": "" if status != "failed" else "config",
        "error": "" if status != "failed" else "ValueError: wrong",
        "traceback": "",
        "metric": "val_accuracy",
        "score": metrics(number, epochs)["val_accuracy"],
        "best_epoch": epochs,
        "epochs_run": epochs,
        "parameters": 1000 + number,
        "seconds": 1.5,
        "time": 1_767_225_700.0 + number,
        "metrics": metrics(number, epochs, mark),
        **more,
    }


def write_trial(writer: Writer, number: int, *, epochs: int = 2, mark: float = 0.0, **end: Any) -> str:
    """Write a whole trial; return its key."""
    write_start(writer, number, epochs=epochs, mark=mark)
    writer.end(end_row(number, epochs=epochs, mark=mark, **end))
    return key("trial", number)


def write_start(writer: Writer, number: int, *, epochs: int = 2, mark: float = 0.0, attempt: int = 1) -> str:
    """Write a trial up to its end row; return its key."""
    writer.start(start_row(number, attempt))
    for epoch in range(epochs + 1):
        writer.epoch({"trial": key("trial", number), "epoch": epoch, "metrics": metrics(number, epoch, mark)})
    return key("trial", number)


def make_folder(path: Path, more: Iterable[Mapping[str, Any]] = ()) -> ScanFolder:
    """A scan folder as a launch leaves it before its first bundle."""
    path.mkdir(exist_ok=True)
    folder = ScanFolder(path)
    write_schemas(folder, Schemas.of(hyperparameters([settings(0), *more]), METRICS))
    return folder
