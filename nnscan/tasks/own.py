"""A task of a user's own, named in the scan file as "package.module:function"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from nnscan.dotted import load_function
from nnscan.tasks.classification import first_column
from nnscan.tasks.outputs import Outputs, at_least_float32, changed

NEEDED = ("mean_loss", "scores")


def own_task(name: str, arguments: Mapping[str, Any], classes: int, metric_names: Sequence[str]) -> OwnTask:
    """Return the task that the function or class `name` gives of `arguments`, and of `classes` where it names them.

    Raises
    ------
    ValueError
        Where what it returns lacks a method.
    """
    function = load_function(name)
    offers = {"classes": classes} if "classes" in signature(function).parameters else {}
    given = function(**arguments, **offers)
    needed = (*NEEDED, *(["metrics"] if metric_names else []))
    missing = [method for method in needed if not callable(getattr(given, method, None))]
    if missing:
        raise ValueError(
            f"{name} returned {type(given).__name__}, which has no {' and no '.join(missing)}. A task has the methods"
            " mean_loss(outputs, targets) and scores(outputs), and metrics(outputs, targets) where task.metrics names"
            " any."
        )
    return OwnTask(name, given, tuple(metric_names))


@dataclass(frozen=True)
class OwnTask:
    """A user's task, with what it leaves out filled in, and what it gives checked."""

    name: str
    given: Any
    metric_names: tuple[str, ...]

    def mean_loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Return what it gives, of outputs that are float32 at least."""
        return self._scalar("mean_loss", self.given.mean_loss(changed(outputs, at_least_float32), targets))

    def scores(self, outputs: Outputs) -> Tensor:
        """Return what it gives."""
        found = self.given.scores(outputs)
        if not isinstance(found, Tensor) or found.dim() != 2:
            raise ValueError(
                f"{self.name}: scores(outputs) gives {_described(found)}; it has to give a tensor (N, classes)."
            )
        return found

    def probabilities(self, outputs: Outputs) -> Tensor:
        """Return what it gives; the softmax of its scores where it has no such method."""
        scores = self.scores(outputs)
        if not hasattr(self.given, "probabilities"):
            return scores.float().softmax(1)
        found = self.given.probabilities(changed(outputs, at_least_float32))
        if not isinstance(found, Tensor) or found.shape != scores.shape:
            raise ValueError(
                f"{self.name}: probabilities(outputs) gives {_described(found)}; it has to give one for each score,"
                f" {tuple(scores.shape)}."
            )
        return found.float()

    def labels(self, targets: Tensor) -> Tensor:
        """Return what it gives; the targets, or their first column, where it has no such method."""
        return self.given.labels(targets) if hasattr(self.given, "labels") else first_column(targets)

    def metrics(self, outputs: Outputs, targets: Tensor) -> Mapping[str, Tensor]:
        """Return what it gives: exactly the metrics that `task.metrics` names."""
        if not self.metric_names:
            return {}
        found = self.given.metrics(changed(outputs, at_least_float32), targets)
        if not isinstance(found, Mapping) or set(found) != set(self.metric_names):
            told = sorted(found) if isinstance(found, Mapping) else type(found).__name__
            raise ValueError(
                f"{self.name}: metrics(outputs, targets) gives {told}; task.metrics says {sorted(self.metric_names)}."
                " Make the two agree."
            )
        return {name: self._scalar(name, found[name]) for name in self.metric_names}

    def _scalar(self, what: str, value: Any) -> Tensor:
        found = torch.as_tensor(value)
        if found.dim():
            raise ValueError(
                f"{self.name}: {what} has the shape {tuple(found.shape)}; it has to be one number, the mean over the"
                " examples of the batch."
            )
        return found


def _described(found: Any) -> str:
    return str(tuple(found.shape)) if isinstance(found, Tensor) else type(found).__name__
