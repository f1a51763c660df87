"""One class an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nnscan.tasks.outputs import Outputs, at_least_float32


@dataclass(frozen=True)
class Classification:
    """The outputs, (N, classes), are logits; with "mse" estimates of the one-hot labels."""

    loss: str = "cross_entropy"
    """"cross_entropy", or "mse": the mean over examples and classes of (output - one-hot)^2."""

    label_smoothing: float = 0.0
    """With s, the targets are (1 - s) one-hot + s / classes (Szegedy et al. 2016, "Rethinking the Inception
    Architecture", section 7)."""

    metric_names: tuple[str, ...] = ()

    def mean_loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch: a scalar, float32 at least."""
        logits, labels = at_least_float32(self.scores(outputs)), self.labels(targets)
        if self.loss == "mse":
            return functional.mse_loss(logits, _smoothed(logits, labels, self.label_smoothing))
        return functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)

    def scores(self, outputs: Outputs) -> Tensor:
        """Return the outputs themselves.

        Raises
        ------
        TypeError
            Where there are several: classification says nothing of which is meant.
        """
        if not isinstance(outputs, Tensor):
            raise TypeError(
                f"the network gives {type(outputs).__name__}; the task 'classification' takes one tensor (N, classes)."
                " Name a task that takes what the network gives: [task] name = ..."
            )
        return outputs

    def probabilities(self, outputs: Outputs) -> Tensor:
        """Return class probabilities (N, classes), float32; each row sums to 1, its largest where the outputs have it.

        Softmax of a network trained with "cross_entropy". With "mse" its outputs estimate the probabilities themselves:
        their positive parts, scaled to sum 1; softmax where no output is positive.
        """
        logits = self.scores(outputs).float()
        softmax = logits.softmax(1)
        if self.loss != "mse":
            return softmax
        positive = logits.clamp(min=0)
        total = positive.sum(1, keepdim=True)
        return torch.where(total > 0, positive / total, softmax)

    def labels(self, targets: Tensor) -> Tensor:
        """Return the classes (N,): the targets, or of several an example the first."""
        return first_column(targets)

    def metrics(self, outputs: Outputs, targets: Tensor) -> Mapping[str, Tensor]:  # noqa: ARG002
        """Return none: loss and accuracies are every task's."""
        return {}


CLASSIFICATION = Classification()
"""As it is where a scan file says nothing else."""


def first_column(targets: Tensor) -> Tensor:
    """Return the first of the targets of each example, (N,) int64; targets (N,) are that themselves."""
    return targets if targets.dim() == 1 else targets[:, 0].long()


def _smoothed(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    classes = outputs.shape[1]
    targets = torch.full_like(outputs, smoothing / classes)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)
