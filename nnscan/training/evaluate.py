"""Loss and accuracies of a network on examples it does not train on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnscan.training.group import ALONE, Group
from nnscan.training.losses import Task, mean_loss

VALUES_AT_A_TIME = {"cpu": 2**17}
"""Input values in a batch of an evaluation, where not 2^24. Convolutions make maps of some tens of times the size:
these have to fit into a GPU's memory, and are best kept in a CPU's cache (28x28 digits, 16 and 32 channels: 50 us an
example at 128 at a time, 130 at 1,024; to a perceptron it is all one from 256 on)."""


@dataclass(frozen=True)
class Evaluation:
    """How well a network does, over examples that each counted once."""

    loss: float
    """Mean over the examples."""

    accuracy: float
    """Share of examples whose largest output is their class, in [0, 1]."""

    class_accuracy: list[float]
    """The same among the examples of each class; NaN where a class has none."""

    def metrics(self, part: str) -> dict[str, float | list[float]]:
        """Return the columns of a row: `val_loss` and so on with `part` "val"."""
        return {
            f"{part}_loss": self.loss,
            f"{part}_accuracy": self.accuracy,
            f"{part}_class_accuracy": self.class_accuracy,
        }


def evaluate(predicted: Iterable[tuple[Tensor, Tensor]], classes: int, task: Task, group: Group = ALONE) -> Evaluation:
    """Return how good the predictions of all ranks are: pairs of outputs (n, classes) and labels (n,), one or more.

    Sums, and integer counts, over examples; they stay on the device until the end, so no batch waits for it.
    """
    losses, hits, examples = zip(*[_sums(outputs, labels, classes, task) for outputs, labels in predicted], strict=True)
    right, all_of_class = group.add(torch.stack([torch.stack(hits).sum(0), torch.stack(examples).sum(0)])).tolist()
    return Evaluation(
        loss=group.add(torch.stack(losses).sum()).item() / sum(all_of_class),
        accuracy=sum(right) / sum(all_of_class),
        class_accuracy=[hit / count if count else math.nan for hit, count in zip(right, all_of_class, strict=True)],
    )


@torch.inference_mode()
def outputs(model: nn.Module, inputs: Tensor, precision: str) -> Tensor:
    """Return what `model`, in evaluation mode, gives for `inputs`; no graph is kept."""
    with autocast(inputs.device, precision):
        return model(inputs)  # type: ignore[no-any-return]


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which a network computes: torch's autocast for "bfloat16", nothing for "float32"."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def batch_size(input_shape: tuple[int, ...], device: torch.device) -> int:
    """Return how many examples an evaluation takes at a time: at least 16."""
    return max(16, VALUES_AT_A_TIME.get(device.type, 2**24) // math.prod(input_shape))


def sum_type(device: torch.device) -> torch.dtype:
    """Return the type of sums of losses: float64, but on Apple's MPS, which has none."""
    return torch.float32 if device.type == "mps" else torch.float64


def _sums(outputs: Tensor, labels: Tensor, classes: int, task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sum of the losses of a batch, and of each class the hits and the examples, (classes,) int64."""
    if not len(labels):  # a mean over nothing is NaN
        return _no_sums(outputs, classes)
    loss = mean_loss(outputs, labels, task).to(sum_type(outputs.device)) * len(labels)
    hits = labels.new_zeros(classes).index_add_(0, labels, (outputs.argmax(1) == labels).long())
    examples = labels.new_zeros(classes).index_add_(0, labels, torch.ones_like(labels))
    return loss, hits, examples


def _no_sums(outputs: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    none = torch.zeros(classes, dtype=torch.int64, device=outputs.device)
    return torch.zeros((), dtype=sum_type(outputs.device), device=outputs.device), none, none
