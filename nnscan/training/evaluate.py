"""Loss and accuracies of a network on examples it does not train on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nnscan.tasks.outputs import Outputs, tensors
from nnscan.tasks.task import Task
from nnscan.training.group import ALONE, Group

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

    more: Mapping[str, float] = field(default_factory=dict)
    """What else the task measures: means over the examples."""

    def metrics(self, part: str) -> dict[str, float | list[float]]:
        """Return the columns of a row: `val_loss` and so on with `part` "val"."""
        return {
            f"{part}_loss": self.loss,
            f"{part}_accuracy": self.accuracy,
            f"{part}_class_accuracy": self.class_accuracy,
            **{f"{part}_{name}": value for name, value in self.more.items()},
        }


def evaluate(predicted: Iterable[tuple[Outputs, Tensor]], classes: int, task: Task, group: Group = ALONE) -> Evaluation:
    """Return how good the predictions of all ranks are: pairs of outputs and targets of n examples, one or more.

    Sums, and integer counts, over examples; they stay on the device until the end, so no batch waits for it.
    """
    losses, hits, examples, more = zip(
        *[_sums(outputs, targets, classes, task) for outputs, targets in predicted], strict=True
    )
    right, all_of_class = group.add(torch.stack([torch.stack(hits).sum(0), torch.stack(examples).sum(0)])).tolist()
    count = sum(all_of_class)
    return Evaluation(
        loss=group.add(torch.stack(losses).sum()).item() / count,
        accuracy=sum(right) / count,
        class_accuracy=[hit / all_ if all_ else math.nan for hit, all_ in zip(right, all_of_class, strict=True)],
        more=_means(task.metric_names, more, count, group),
    )


@torch.inference_mode()
def outputs(model: nn.Module, inputs: Tensor, precision: str) -> Outputs:
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


Sums = tuple[Tensor, Tensor, Tensor, Tensor]
"""Of a batch: the sum of the losses, of each class the hits and the examples, (classes,) int64, and the sums of the
task's own metrics, (number of them,)."""


def _sums(outputs: Outputs, targets: Tensor, classes: int, task: Task) -> Sums:
    if not len(targets):  # a mean over nothing is NaN
        return _no_sums(tensors(outputs)[0].device, classes, len(task.metric_names))
    labels = task.labels(targets)
    loss = task.mean_loss(outputs, targets).to(sum_type(targets.device)) * len(labels)
    hits = labels.new_zeros(classes).index_add_(0, labels, (task.scores(outputs).argmax(1) == labels).long())
    examples = labels.new_zeros(classes).index_add_(0, labels, torch.ones_like(labels))
    return loss, hits, examples, _metric_sums(outputs, targets, task)


def _metric_sums(outputs: Outputs, targets: Tensor, task: Task) -> Tensor:
    found = task.metrics(outputs, targets)
    sums = torch.zeros(len(task.metric_names), dtype=sum_type(targets.device), device=targets.device)
    for place, name in enumerate(task.metric_names):
        sums[place] = found[name] * len(targets)
    return sums


def _no_sums(device: torch.device, classes: int, metrics: int) -> Sums:
    none = torch.zeros(classes, dtype=torch.int64, device=device)
    losses = torch.zeros(1 + metrics, dtype=sum_type(device), device=device)
    return losses[0], none, none, losses[1:]


def _means(names: Sequence[str], sums: tuple[Tensor, ...], count: int, group: Group) -> dict[str, float]:
    """Return the means of metrics over `count` examples of all ranks, of their sums in each batch of this one."""
    if not names:
        return {}
    totals = group.add(torch.stack(sums).sum(0)).tolist()
    return {name: total / count for name, total in zip(names, totals, strict=True)}
