"""The losses of several networks at once, and the gradients of their outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional

from nnscan.tasks.classification import Classification, first_column
from nnscan.tasks.outputs import Outputs, changed, filled, tensors
from nnscan.tasks.pairs import HEADS, Pairs
from nnscan.tasks.task import Task

aten = torch.ops.aten

FEW_CLASSES = 32
"""A row of more is fast as it lies."""

VECTOR = 16
"""Numbers in the widest vector of a CPU, of float32."""


@dataclass(frozen=True)
class Losses:
    """What a batch of each of k networks gives."""

    means: Tensor
    """(k,), of the examples of each."""
    hits: Tensor
    """(k,) int64: how many examples are classified rightly."""
    gradients: Outputs
    """Of each mean with respect to the outputs of its network; built like the outputs."""


StackedLoss = Callable[[slice, Outputs, Tensor], Losses]
"""Of the networks in these rows: outputs (k, n, ...), and targets (k, n) or (k, n, T)."""


def of(tasks: Sequence[Task]) -> StackedLoss:
    """Return the loss of networks that are trained for these tasks, one a row: by formula where all have one, at once.

    Else each network's own task is asked.
    """
    kinds = {type(task) for task in tasks}
    if kinds == {Classification} and len({task.loss for task in tasks if isinstance(task, Classification)}) == 1:
        return _of_classifications([task for task in tasks if isinstance(task, Classification)])
    if kinds == {Pairs}:
        return partial(_pairs, [task for task in tasks if isinstance(task, Pairs)])
    return partial(_one_by_one, tasks)


def mean_losses(tasks: Sequence[Classification], outputs: Tensor, targets: Tensor) -> Tensor:
    """Return what each task's `mean_loss` says of outputs (k, n, C) and targets that all share, (k,), bit for bit."""
    is_plain = all(task == Classification() for task in tasks)
    if not is_plain or outputs.dtype is not torch.float32 or not _turns(outputs):
        return torch.stack([task.mean_loss(own, targets) for task, own in zip(tasks, outputs, strict=True)])
    labels = tasks[0].labels(targets)
    logs = _turned(outputs).log_softmax(1)[..., : len(labels)].mT.contiguous()
    return torch.stack([functional.nll_loss(own, labels) for own in logs])


def cross_entropy(logits: Tensor, labels: Tensor, smoothing: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted mean cross-entropy of each network, (k,), and its gradient, (k, n, C).

    Parameters
    ----------
    logits : Tensor of shape (k, n, C)
    labels : Tensor of shape (k, n), int64
    smoothing : Tensor of shape (k, 1, 1)
        Share of the target that goes to all classes alike (Szegedy et al. 2016, section 7).
    weights : Tensor of shape (k, 1, 1)
        Factor of the whole.
    """
    over = 1 if _turns(logits) else 2  # the dimension of the classes; 3 - over is that of the examples
    count, classes = logits.shape[1:]
    logs = (_turned(logits) if over == 1 else logits).log_softmax(over)
    wanted = torch.zeros_like(logs)  # d loss / d logs
    places, own = labels.unsqueeze(over), wanted.narrow(3 - over, 0, count)
    own.copy_(smoothing * (-1 / (count * classes)))
    own.scatter_add_(over, places, ((smoothing - 1) / count).expand_as(places))
    own.mul_(weights)
    gradients = aten._log_softmax_backward_data(wanted, logs, over, logits.dtype)
    own_gradients = gradients.narrow(3 - over, 0, count).movedim(over, 2)
    return (wanted * logs).sum((1, 2)), own_gradients.contiguous()


def _turns(logits: Tensor) -> bool:
    """Return whether the softmax over a few classes is taken with the examples innermost: it is five times as fast.

    torch then works on a vector of examples at once. The bits are the same where it adds up a row one by one, too.
    """
    return logits.device.type == "cpu" and _is_same_turned(logits.shape[2], logits.dtype)


@cache
def _is_same_turned(classes: int, dtype: torch.dtype) -> bool:
    if classes > FEW_CLASSES:
        return False
    logits = torch.randn(2, 40, classes, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return torch.equal(logits.log_softmax(2), _turned(logits).log_softmax(1)[..., :40].mT)


def _turned(logits: Tensor) -> Tensor:
    """Return (k, C, n) of logits (k, n, C), with zeros up to whole vectors: torch rounds the last few otherwise."""
    networks, count, classes = logits.shape
    turned = logits.new_zeros(networks, classes, math.ceil(count / VECTOR) * VECTOR)
    turned[..., :count].copy_(logits.mT)
    return turned


def _of_classifications(tasks: Sequence[Classification]) -> StackedLoss:
    smoothing = torch.tensor([task.label_smoothing for task in tasks], dtype=torch.float64)[:, None, None]
    return partial(_mean_square if tasks[0].loss == "mse" else _classification, smoothing)


def _classification(smoothing: Tensor, rows: slice, outputs: Outputs, targets: Tensor) -> Losses:
    assert isinstance(outputs, Tensor)
    labels = _labels(targets)
    ones = outputs.new_ones(())
    means, gradients = cross_entropy(outputs, labels, smoothing[rows].to(outputs), ones)
    return Losses(means, _hits(outputs, labels), gradients)


def _mean_square(smoothing: Tensor, rows: slice, outputs: Outputs, targets: Tensor) -> Losses:
    assert isinstance(outputs, Tensor)
    labels, smoothed = _labels(targets), smoothing[rows].to(outputs)
    wanted = (smoothed / outputs.shape[2]).expand_as(outputs).clone()
    wanted.scatter_add_(2, labels[..., None], (1 - smoothed).expand(*labels.shape, 1))
    away = outputs - wanted
    return Losses(away.square().mean((1, 2)), _hits(outputs, labels), away * (2 / away[0].numel()))


def _pairs(tasks: Sequence[Pairs], rows: slice, outputs: Outputs, targets: Tensor) -> Losses:
    assert isinstance(outputs, dict)
    some = tasks[rows]
    like = outputs[HEADS[0]]
    weights = like.new_tensor([[task.head_weight, task.digit_weight, task.digit_weight] for task in some])
    labels = targets[..., :3].long().unbind(2)
    none = like.new_zeros(())
    found = [
        cross_entropy(outputs[head], label.contiguous(), none, weight[:, None, None])
        for head, label, weight in zip(HEADS, labels, weights.unbind(1), strict=True)
    ]
    gradients = dict(zip(HEADS, (gradient for _, gradient in found), strict=True))
    scores = torch.stack([task.scores({name: outputs[name][i] for name in HEADS}) for i, task in enumerate(some)])
    return Losses(torch.stack([mean for mean, _ in found]).sum(0), _hits(scores, labels[0]), gradients)


def _one_by_one(tasks: Sequence[Task], rows: slice, outputs: Outputs, targets: Tensor) -> Losses:
    leaves = [one.detach().requires_grad_() for one in tensors(outputs)]
    tracked = filled(outputs, leaves)
    means, hits = zip(
        *[_of_one(task, _row(tracked, row), targets[row]) for row, task in enumerate(tasks[rows])], strict=True
    )
    found = torch.autograd.grad(torch.stack(means).sum(), leaves, allow_unused=True, materialize_grads=True)
    return Losses(torch.stack(means).detach(), torch.stack(hits), filled(outputs, list(found)))


def _of_one(task: Task, outputs: Outputs, targets: Tensor) -> tuple[Tensor, Tensor]:
    hits = task.scores(changed(outputs, Tensor.detach)).argmax(1) == task.labels(targets)
    return task.mean_loss(outputs, targets), hits.sum()


def _row(outputs: Outputs, row: int) -> Outputs:
    return changed(outputs, lambda one: one[row])


def _labels(targets: Tensor) -> Tensor:
    """Return the classes (k, n)."""
    return first_column(targets.flatten(0, 1)).view(targets.shape[:2])


def _hits(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(2) == labels).sum(1)
