"""Networks of a stack evaluated together; each gets the values that it would have alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nnscan.tasks.classification import Classification
from nnscan.tasks.outputs import Outputs, changed
from nnscan.training.evaluate import Evaluation, evaluate, sum_type
from nnscan.training.fusion.losses import mean_losses
from nnscan.training.fusion.member import Member, rows_of, runs
from nnscan.training.fusion.network import StackedNetwork
from nnscan.training.loop import Row

Predicted = Sequence[tuple[Outputs, Tensor]]
"""Of each batch the outputs (k, n, ...) of k networks, and the targets (n, ...) that all share."""


@torch.inference_mode()
def validate(network: StackedNetwork, members: Sequence[Member]) -> Iterator[tuple[Member, Row]]:
    """Yield the `val_*` of each of `members`, which come in the order of their rows; none where nothing validates."""
    for run in runs(members, lambda member: id(member.data)):
        yield from zip(run, _of_run(network, run), strict=True)


def _of_run(network: StackedNetwork, run: Sequence[Member]) -> list[Row]:
    """Return those of trials that have one part to validate on, whose rows follow each other."""
    first, data, rows = run[0], run[0].data, rows_of(run)
    if not len(data.validation):
        return [{} for _ in run]
    found = [
        (changed(network.evaluate(rows, inputs.expand(len(run), *inputs.shape)), Tensor.clone), targets)
        for inputs, targets in data.validation_batches(first.state.evaluation_buffers)
    ]
    tasks = [member.state.task for member in run]
    if all(type(task) is Classification for task in tasks):
        evaluations = of_classifications(found, tasks, data.classes)  # type: ignore[arg-type]
    else:
        evaluations = [evaluate(_of_place(found, place), data.classes, task) for place, task in enumerate(tasks)]
    return [dict(evaluation.metrics("val")) for evaluation in evaluations]


def _of_place(found: Predicted, place: int) -> Predicted:
    return [(changed(outputs, lambda one: one[place]), targets) for outputs, targets in found]


def of_classifications(found: Predicted, tasks: Sequence[Classification], classes: int) -> list[Evaluation]:
    """Return what `evaluate` says of each network, bit for bit, with all networks' hits counted at once."""
    losses, hits, examples = zip(*[_sums(*batch, tasks, classes) for batch in found], strict=True)
    all_of_class = torch.stack(examples).sum(0).tolist()
    right = torch.stack(hits).sum(0).tolist()
    count = sum(all_of_class)
    # Each network's losses are added up as `evaluate` does it: over the batches, in one row.
    means = [one.sum().item() / count for one in torch.stack(losses, 1)]
    return [_evaluation(mean, own, all_of_class) for mean, own in zip(means, right, strict=True)]


def _sums(
    outputs: Outputs, targets: Tensor, tasks: Sequence[Classification], classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return of a batch the losses, (k,), and of each class the hits (k, classes) and the examples (classes,)."""
    assert isinstance(outputs, Tensor)
    labels = tasks[0].labels(targets)
    means = mean_losses(tasks, outputs, targets)
    right = (outputs.argmax(2) == labels).long()
    hits = labels.new_zeros(len(tasks), classes).index_add_(1, labels, right)
    examples = labels.new_zeros(classes).index_add_(0, labels, torch.ones_like(labels))
    return means.to(sum_type(targets.device)) * len(labels), hits, examples


def _evaluation(loss: float, right: Sequence[int], all_of_class: Sequence[int]) -> Evaluation:
    shares = [hit / all_ if all_ else math.nan for hit, all_ in zip(right, all_of_class, strict=True)]
    return Evaluation(loss, sum(right) / sum(all_of_class), shares)
