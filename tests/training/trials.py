"""A small trial to train: settings, a data set of tensors, and the road up to its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nnscan.data.dataset import Dataset
from nnscan.training.early_stopping import stop
from nnscan.training.loop import first_row, train_epoch
from nnscan.training.state import TrainingState
from nnscan.training.trial_data import TrialData
from nnscan.trial import Kind, Trial

MLP = {"name": "mlp", "width": 16, "depth": 2, "dropout": 0.0, "activation": "relu"}
CNN = {
    "name": "cnn",
    "channels": [4, 6],
    "kernel_size": 3,
    "batch_norm": True,
    "dropout": 0.0,
    "skip": True,
    "hidden_units": 8,
}
SGD = {
    "name": "sgd",
    "learning_rate": 0.05,
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.01,
    "schedule": {"name": "constant"},
}
ADAM = {
    "name": "adam",
    "learning_rate": 0.003,
    "betas": [0.9, 0.99],
    "epsilon": 1e-8,
    "weight_decay": 0.01,
    "schedule": {"name": "constant"},
}
ADAMW = {**ADAM, "name": "adamw"}
ONE_CYCLE = {"name": "one_cycle", "warmup_fraction": 0.3, "initial_fraction": 0.04, "final_fraction": 1e-4}
AUGMENTATION = {"crop_padding": 1, "horizontal_flip": True, "cutout": 2}
NO_AUGMENTATION = {"crop_padding": 0, "horizontal_flip": False, "cutout": 0}


def settings(**changes: Any) -> dict[str, Any]:
    """Return the settings of a tiny trial; `changes` replace tables (model, optimizer) or join them (the others)."""
    tables: dict[str, Any] = {
        "data": {"name": "digits", "normalization": "standard", "test": 0.2, "augmentation": NO_AUGMENTATION},
        "model": MLP,
        "optimizer": ADAM,
        "task": {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0},
        "training": {
            "epochs": 3,
            "batch_size": 16,
            "precision": "float32",
            "seed": 5,
            "gradient_clip": 0.0,
            "keep": "none",
            "early_stopping": {"patience": 0, "monitor": "val_loss"},
        },
        "validation": {"folds": 4, "stratified": True},
    }
    for name, table in changes.items():
        tables[name] = dict(table) if name in ("model", "optimizer") else {**tables[name], **table}
    return tables


def trial(*, kind: Kind = Kind.TRIAL, fold: int = 1, replicate: int = 0, epochs: int = 0, **changes: Any) -> Trial:
    """Return a trial of `settings(**changes)`."""
    configured = settings(**changes)
    return Trial(
        key="0" * 31 + "a",
        configuration="0" * 32,
        settings=configured,
        families=("T",),
        kind=kind,
        epochs=epochs or configured["training"]["epochs"],
        fold=fold,
        replicate=replicate,
    )


def dataset(*, examples: int = 120, tests: int = 30, size: int = 8, channels: int = 1, classes: int = 3) -> Dataset:
    """Return random images whose brightest third tells their class, well enough to be learned."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.arange(examples + tests) % classes
    images = torch.randint(0, 120, (examples + tests, channels, size, size), generator=generator, dtype=torch.uint8)
    for row, label in enumerate(labels.tolist()):
        images[row, :, label * size // classes : (label + 1) * size // classes] += 100
    return Dataset(
        images=images[:examples],
        labels=labels[:examples],
        test_images=images[examples:],
        test_labels=labels[examples:],
        classes=tuple(str(number) for number in range(classes)),
        fingerprint="f" * 32,
    )


def data_of(one: Trial, of: Dataset | None = None) -> TrialData:
    """Return the data of `one` on the CPU."""
    return TrialData.of(of or dataset(), one, "cpu")


def never() -> bool:
    """Return False: nobody interrupts."""
    return False


def train(
    state: TrainingState, data: TrialData, rows: list[dict[str, Any]], interrupted: Callable[[], bool] = never
) -> bool:
    """Train to the end, as a worker does, and return whether it was reached; rows are appended."""
    if not rows:
        rows.append(first_row(state, data))
    while state.epoch < state.trial.epochs and not stop(rows, state.trial):
        row = train_epoch(state, data, interrupted)
        if row is None:
            return False
        rows.append(row)
    return True


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return copies of parameters and buffers."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return `rows` without what the clock says."""
    return [
        {name: value for name, value in row.items() if name not in ("epoch_seconds", "examples_per_second")}
        for row in rows
    ]
