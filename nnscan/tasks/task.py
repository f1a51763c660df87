"""The seam between a training and what it is for, and the tasks that a scan file can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from nnscan.results.metric import task_metrics
from nnscan.tasks.classification import Classification
from nnscan.tasks.outputs import Outputs
from nnscan.tasks.own import own_task
from nnscan.tasks.pairs import Pairs

Settings = Mapping[str, Any]
"""The table `task`, resolved."""


class Task(Protocol):
    """What outputs are worth, and what they say. Everything is computed where the outputs lie."""

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Names of its metrics beyond loss and accuracies, those of `nnscan.results.metric.task_metrics`."""
        ...

    def mean_loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Return the mean loss over the examples of a batch: a scalar, float32 at least, that can be differentiated."""
        ...

    def scores(self, outputs: Outputs) -> Tensor:
        """Return (N, classes): an example's prediction is the class with the largest score."""
        ...

    def probabilities(self, outputs: Outputs) -> Tensor:
        """Return (N, classes) float32, each row of sum 1 and largest where the score is."""
        ...

    def labels(self, targets: Tensor) -> Tensor:
        """Return the classes (N,) int64 of `targets` (N,) or (N, ...)."""
        ...

    def metrics(self, outputs: Outputs, targets: Tensor) -> Mapping[str, Tensor]:
        """Return further metrics, exactly those of `metric_names`: scalars, means over the examples of a batch."""
        ...


def of(settings: Settings, classes: int) -> Task:
    """Return the task that the table `task` names, for data of so many classes.

    Raises
    ------
    ScanError
        Where a user's task cannot be imported.
    ValueError
        Where it is no task; with what it lacks.
    """
    if settings["name"] == "classification":
        return Classification(settings["loss"], settings["label_smoothing"])
    if settings["name"] == "pairs":
        return Pairs(settings["head_weight"], settings["digit_weight"], settings["prediction"])
    return own_task(settings["name"], settings["arguments"], classes, task_metrics(settings))
