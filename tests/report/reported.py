"""Scans without a training, for the tests of the report: real plans, rows and files made by hand."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from nnscan.identity import trial_key
from nnscan.plan import Plan, expand
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer
from nnscan.results.schema import write_schemas
from nnscan.results.store import close_journals
from nnscan.scan import read
from nnscan.trial import Kind, Trial

PLACE = {"launch": "20260101-000000-aaaaaa", "host": "node1", "device": "cpu", "threads": 1, "processes": 1, "fused": 1}
VERSIONS = {"nnscan_version": "0.1.0", "torch_version": "2.6", "python_version": "3.11", "numerics": 1, "pid": 1}

SCAN = """
name = "made"
[data]
name = "digits"
[validation]
folds = 3
[training]
epochs = 4
[optimizer]
name = "adam"
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = [8, 16, 32]
optimizer.learning_rate = [0.001, 0.01]
[[grid]]
family = "CNN"
model.name = "cnn"
model.batch_norm = [true, false]
model.skip = [true, false]
"""


def launched(path: Path, text: str = SCAN) -> tuple[ScanFolder, Plan]:
    """Return the folder of a scan as a launch leaves it before its first trial, and its plan."""
    scan = read(text)
    folder = ScanFolder(path / scan.name)
    (folder.launches / PLACE["launch"]).mkdir(parents=True)
    folder.scan_file.write_text(scan.toml())
    plan = expand(scan)
    plan.write(folder)
    write_schemas(folder, plan.schemas())
    return folder, plan


def quality(trial: Trial) -> float:
    """A score between 0.5 and 0.99: wider MLPs are better, CNNs with both switches best."""
    model = trial.settings["model"]
    if model["name"] == "mlp":
        return 0.5 + model["width"] / 80 + (trial.settings["optimizer"]["learning_rate"] == 0.01) * 0.05
    return 0.9 + 0.04 * model["batch_norm"] + 0.03 * model["skip"]


def curve(trial: Trial, epochs: int = 4) -> list[float]:
    """Accuracies of epochs 0 to `epochs`, which rise to the quality, a little other in each fold."""
    best = quality(trial) + 0.002 * trial.fold
    return [best * (1 - 0.5**epoch) + 0.1 * 0.5**epoch for epoch in range(epochs + 1)]


def train(folder: ScanFolder, trials: Iterable[Trial], curve: Callable[[Trial], Sequence[float]] = curve) -> None:
    """Write completed trials with these accuracies of validation, and steps where the settings ask for any."""
    writer = Writer(folder, "000000", {**PLACE, **VERSIONS})
    for trial in trials:
        start(writer, trial)
        accuracies = curve(trial)
        for epoch, accuracy in enumerate(accuracies):
            writer.epoch({"trial": trial.key, "epoch": epoch, "metrics": metrics(epoch, accuracy)})
        best = int(np.argmax(accuracies))
        score = {"metric": "val_accuracy", "score": accuracies[best], "best_epoch": best}
        end = {"status": "completed", "failure": "", "error": "", "traceback": "", "seconds": 1.5, "parameters": 100}
        writer.end({"trial": trial.key, **end, **score, "epochs_run": len(accuracies) - 1})
    sealed(folder, writer)


def fail(folder: ScanFolder, trial: Trial, error: str = "ValueError: <b>too wide</b>") -> None:
    end = {"status": "failed", "failure": "config", "error": error, "traceback": f"Traceback\n{error}"}
    _end(folder, trial, {**end, "epochs_run": 0})


def diverge(folder: ScanFolder, trial: Trial) -> None:
    _end(folder, trial, {"status": "diverged", "failure": "", "error": "", "traceback": "", "epochs_run": 2})


def _end(folder: ScanFolder, trial: Trial, told: Mapping[str, Any]) -> None:
    writer = Writer(folder, "000001", {**PLACE, **VERSIONS})
    start(writer, trial)
    writer.end({"trial": trial.key, **told, "seconds": 0.5})
    sealed(folder, writer)


def record_steps(folder: ScanFolder, trial: Trial, values: Mapping[str, Sequence[float]], epochs: int = 2) -> None:
    """Write a completed trial with these values of the steps of each epoch, by name."""
    writer = Writer(folder, "000002", {**PLACE, **VERSIONS})
    start(writer, trial)
    for epoch in range(1, epochs + 1):
        writer.steps(
            {"trial": trial.key, "epoch": epoch, "values": {name: list(told) for name, told in values.items()}}
        )
    for epoch, accuracy in enumerate(curve(trial)):
        writer.epoch({"trial": trial.key, "epoch": epoch, "metrics": metrics(epoch, accuracy)})
    score = {"metric": "val_accuracy", "score": curve(trial)[-1], "best_epoch": 4}
    end = {"status": "completed", "failure": "", "error": "", "traceback": "", "seconds": 1.5, "parameters": 100}
    writer.end({"trial": trial.key, **end, **score, "epochs_run": 4})
    sealed(folder, writer)


def start(writer: Writer, trial: Trial) -> None:
    told = {"trial": trial.key, "configuration": trial.configuration, "families": list(trial.families), "attempt": 1}
    slot = {"kind": trial.kind.value, "fold": trial.fold, "replicate": trial.replicate, "epochs": trial.epochs}
    writer.start({**told, **slot, "settings": trial.settings, "time": 1_767_225_600.0})


def metrics(epoch: int, accuracy: float) -> dict[str, float]:
    validation = {"val_accuracy": accuracy, "val_loss": 2 * (1 - accuracy)}
    return validation | ({"train_loss": 1.8 * (1 - accuracy), "train_accuracy": accuracy} if epoch else {})


def sealed(folder: ScanFolder, writer: Writer) -> None:
    writer.close()
    close_journals(folder, lambda bundle: True, Cause.ENDED)


def retrain(
    folder: ScanFolder, trial: Trial, accuracy: float = 0.875, replicate: int = 0, status: str = "completed"
) -> None:
    """Write the row of a retraining of a trial's configuration."""
    key = trial_key(trial.configuration, kind=Kind.RETRAINING, epochs=4, fold=0, replicate=replicate)
    writer = Writer(folder, "000003", {**PLACE, **VERSIONS})
    told = {"trial": key, "configuration": trial.configuration, "families": list(trial.families), "attempt": 1}
    slot = {"kind": "retraining", "fold": 0, "replicate": replicate, "epochs": 4}
    writer.start({**told, **slot, "settings": trial.settings, "time": 1_767_225_900.0})
    end = {"status": status, "failure": "", "error": "", "traceback": "", "seconds": 2.0, "parameters": 100}
    test = {"test_accuracy": accuracy, "test_loss": 0.4} if status == "completed" else {}
    writer.end({"trial": key, **end, "epochs_run": 4, **test})
    sealed(folder, writer)


def model_folder(
    folder: ScanFolder, family: str, classes: Sequence[str], predictions: pa.Table, configuration: str = "0" * 32
) -> Path:
    """Write a model folder without weights: the card and what the network said of the test set."""
    path = folder.models / family
    path.mkdir(parents=True)
    card = {"format": 1, "classes": list(classes), "configuration": {"key": configuration}, "results": {}}
    (path / "model.json").write_text(json.dumps(card))
    pq.write_table(predictions, path / "predictions.parquet")
    return path


def predictions_of(labels: Sequence[str], probabilities: Sequence[Sequence[float]], classes: Sequence[str]) -> pa.Table:
    predicted = [classes[int(np.argmax(row))] for row in probabilities]
    return pa.table(
        {
            "index": pa.array(range(len(labels)), pa.int64()),
            "label": pa.array(labels, pa.string()),
            "prediction": pa.array(predicted, pa.string()),
            "probabilities": pa.array([list(row) for row in probabilities], pa.list_(pa.float32())),
        }
    )


def png(pixels: Any) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def examples_of(count: int, classes: Sequence[str], shape: tuple[int, ...] = (8, 8)) -> pa.Table:
    """Examples in every role: the n-th is `1 - n / count` sure of its class, every third is told wrong."""
    random = np.random.default_rng(0)
    rows = []
    for index in range(count):
        label = classes[index % len(classes)]
        wrong = index % 3 == 0
        true = (index + 1) / (count + 1) / (2 if wrong else 1)
        rows.append(
            {
                "index": 10 * index,
                "label": label,
                "prediction": classes[(index + 1) % len(classes)] if wrong else label,
                "probability": 1 - true if wrong else true,
                "true_probability": true,
                "roles": [role for role, every in (("worst", 1), ("gallery", 2), ("class", 1)) if index % every == 0],
                "image": png(random.integers(0, 256, shape)),
                "input": png(random.integers(0, 256, shape)),
            }
        )
    return pa.Table.from_pylist(rows)
