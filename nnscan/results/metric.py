"""The metrics of an epoch: their names, and whether the largest or the smallest is best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

METRICS = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_class_accuracy",
    "learning_rate",
    "examples_per_second",
    "epoch_seconds",
)
"""What nnscan's own training tells of an epoch: fractions, seconds; `train_*` are absent at epoch 0."""

TASK_METRICS: Mapping[str, tuple[str, ...]] = {
    "classification": (),
    "pairs": ("head_accuracy", "comparison_accuracy", "digit_accuracy", "head_loss", "digit_loss"),
}
"""What the tasks of nnscan's own measure beyond loss and accuracies; columns have "val_" or "test_" before the name."""

PER_CLASS = frozenset({"val_class_accuracy"})
"""Metrics that are a list, a value a class."""

RESERVED = PER_CLASS | {
    *("trial", "configuration", "family", "kind", "fold", "replicate", "epochs", "epoch", "status", "failure", "error"),
    *(
        "traceback",
        "attempt",
        "metric",
        "score",
        "best_epoch",
        "epochs_run",
        "parameters",
        "seconds",
        "started",
        "ended",
    ),
    *("host", "device", "pid", "threads", "processes", "fused", "bundle", "writer", "launch", "nnscan_version"),
    *("torch_version", "python_version", "numerics", "data_fingerprint", "code_fingerprint", "test_loss"),
    *("test_accuracy", "test_class_accuracy", "epoch_seconds", "step", "name", "value"),
}
"""Names that a training function's own metrics cannot have: columns of the tables, and what nnscan adds itself.
A dot is refused too: columns with a dot are hyperparameters."""


def task_metrics(task: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics of the table `task` beyond those of every task, without "val_": of a user's as it says.

    Examples
    --------
    >>> task_metrics({"name": "overlap:Overlap", "metrics": ["overlap"]})
    ('overlap',)
    """
    known = TASK_METRICS.get(task["name"])
    return tuple(task["metrics"]) if known is None else known


def smallest_wins(name: str) -> bool:
    """Return whether the smallest value of the metric `name` is best; of every other the largest is."""
    return name.endswith(("loss", "error"))


def best_epoch(values: Sequence[float], smallest: bool) -> int | None:
    """Return the index of the best of `values`, the first on ties; None where all are NaN, or there is none."""
    best = None
    for index, value in enumerate(values):
        if not math.isnan(value) and (best is None or (value < values[best] if smallest else value > values[best])):
            best = index
    return best
