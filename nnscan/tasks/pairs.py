"""Which of two digits is greater: a head that compares, and two that read the digits, each with a loss.

After the EPFL course EE-559, "Deep learning", mini-project 1 (2020), where reading the digits helps to compare them: an
auxiliary loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from nnscan.results.metric import TASK_METRICS
from nnscan.tasks.classification import first_column
from nnscan.tasks.outputs import Outputs, at_least_float32

HEADS = ("head", "first", "second")
"""Outputs that the network has to give: logits (N, 2) of the comparison, logits (N, digits) of each digit."""

LEAST_MARGIN = 2.0**-23
"""By which a prediction's probability is above one half, at least: float32 tells these two apart."""


@dataclass(frozen=True)
class Pairs:
    """Targets (N, 3) are the class (1: first <= second), the first digit and the second."""

    head_weight: float = 1.0
    """Of the cross-entropy of the head."""

    digit_weight: float = 10**-0.5
    """Of the sum of the cross-entropies of both digits."""

    prediction: Literal["head", "digits"] = "head"
    """Who says which is greater: the head, or the comparison of the two digits that are read."""

    metric_names: tuple[str, ...] = TASK_METRICS["pairs"]

    def mean_loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Return `head_weight` times the head's loss, and `digit_weight` times that of both digits, added up."""
        head, digits = _losses(outputs, targets)
        return self.head_weight * head + self.digit_weight * digits

    def scores(self, outputs: Outputs) -> Tensor:
        """Return (N, 2): the logits of the head, or 1 for the class that the two digits say."""
        head, first, second = _heads(outputs)
        return head if self.prediction == "head" else _one_hot(_not_greater(first, second))

    def probabilities(self, outputs: Outputs) -> Tensor:
        """Return (N, 2) float32, each row of sum 1.

        Of the head its softmax. Of the digits the probability that the first is not greater, were the two read
        independently with the probabilities of their softmaxes. The most probable digits may compare otherwise than
        the more probable comparison: what is predicted then has the least margin above one half.
        """
        head, first, second = _heads(outputs)
        if self.prediction == "head":
            return head.softmax(1)
        up_to = first.softmax(1).cumsum(1)  # the probability that the first digit is not above each
        chance = (up_to * second.softmax(1)).sum(1).clamp(0, 1)
        chance = torch.where(
            _not_greater(first, second), chance.clamp(min=0.5 + LEAST_MARGIN), chance.clamp(max=0.5 - LEAST_MARGIN)
        )
        return torch.stack([1 - chance, chance], 1).float()

    def labels(self, targets: Tensor) -> Tensor:
        """Return the classes (N,)."""
        return first_column(targets)

    def metrics(self, outputs: Outputs, targets: Tensor) -> Mapping[str, Tensor]:
        """Return the accuracies of both readings, the share of digits that are read rightly, and both losses."""
        head, first, second = _heads(outputs)
        classes, *digits = targets[:, :3].long().unbind(1)
        head_loss, digit_loss = _losses(outputs, targets)
        read = torch.stack([one.argmax(1) == digit for one, digit in zip((first, second), digits, strict=True)])
        return {
            "head_accuracy": _share(head.argmax(1) == classes),
            "comparison_accuracy": _share(_not_greater(first, second).long() == classes),
            "digit_accuracy": _share(read),
            "head_loss": head_loss,
            "digit_loss": digit_loss,
        }


def _losses(outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropies of the head, and of the two digits together."""
    if targets.dim() != 2 or targets.shape[1] < 3:
        raise ValueError(
            f"the task 'pairs' needs three targets an example, the class and both digits: (N, 3); the data have"
            f' {tuple(targets.shape)}. Use data.name = "mnist_pairs", or return them as y.'
        )
    head, first, second = _heads(outputs)
    classes, *digits = targets[:, :3].long().unbind(1)  # a user's data may have numbers that are not whole behind them
    of_digits = [functional.cross_entropy(one, digit) for one, digit in zip((first, second), digits, strict=True)]
    return functional.cross_entropy(head, classes), of_digits[0] + of_digits[1]


def _heads(outputs: Outputs) -> list[Tensor]:
    """Return the logits of head, first and second digit, float32 at least."""
    if not isinstance(outputs, Mapping) or not set(HEADS) <= set(outputs):
        found = f"a dict of {', '.join(outputs)}" if isinstance(outputs, Mapping) else type(outputs).__name__
        raise TypeError(
            f"the network gives {found}; the task 'pairs' takes a dict of {', '.join(HEADS)}, such as model.name ="
            ' "siamese" gives. For a network with one output set task.name = "classification".'
        )
    return [at_least_float32(outputs[name]) for name in HEADS]


def _not_greater(first: Tensor, second: Tensor) -> Tensor:
    """Return (N,) bool: whether the digit that is read first is not above the second."""
    return first.argmax(1) <= second.argmax(1)


def _one_hot(classes: Tensor) -> Tensor:
    return functional.one_hot(classes.long(), 2).float()


def _share(hits: Tensor) -> Tensor:
    return hits.float().mean()
