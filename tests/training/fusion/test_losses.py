from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nnscan.tasks.classification import Classification
from nnscan.tasks.outputs import changed, tensors
from nnscan.tasks.pairs import Pairs
from nnscan.tasks.task import Task
from nnscan.training.fusion import losses


class Own(Classification):
    """A task of somebody else's."""


def logits(count: int, classes: int = 4) -> Tensor:
    return torch.randn(3, count, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(count))


def labels(count: int, classes: int = 4) -> Tensor:
    return torch.randint(classes, (3, count), generator=torch.Generator().manual_seed(count))


def agree(tasks: list[Task], outputs: object, targets: Tensor) -> None:
    """Assert that losses, hits and gradients are those that autograd takes of each task."""
    rows = slice(0, 3)
    found = losses.of(tasks)(rows, outputs, targets)  # type: ignore[arg-type]
    leaves = [one.clone().requires_grad_() for one in tensors(outputs)]  # type: ignore[arg-type]
    for row, task in enumerate(tasks):
        own = changed(outputs, lambda one: one)  # type: ignore[arg-type]
        values = dict(zip(own, leaves, strict=True)) if isinstance(own, dict) else leaves[0]
        mine = changed(values, lambda one, row=row: one[row])  # type: ignore[misc]
        loss = task.mean_loss(mine, targets[row])
        hits = (task.scores(mine).argmax(1) == task.labels(targets[row])).sum()
        assert found.means[row].item() == pytest.approx(loss.item(), rel=1e-12)
        assert found.hits[row] == hits
        loss.backward()  # type: ignore[no-untyped-call]
    for gradient, leaf in zip(tensors(found.gradients), leaves, strict=True):
        torch.testing.assert_close(gradient, leaf.grad, rtol=1e-10, atol=1e-14)


@given(count=st.integers(1, 9), smoothings=st.lists(st.floats(0, 0.9), min_size=3, max_size=3))
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_classifications_are_those_of_each_task(loss: str, count: int, smoothings: list[float]) -> None:
    agree([Classification(loss, smoothing) for smoothing in smoothings], logits(count), labels(count))


def test_targets_with_more_columns_are_classes_in_the_first() -> None:
    targets = torch.stack([labels(5), labels(5) * 7], 2)
    agree([Classification()] * 3, logits(5), targets)


@given(count=st.integers(1, 9), weights=st.lists(st.floats(0, 3), min_size=6, max_size=6))
@pytest.mark.parametrize("prediction", ["head", "digits"])
def test_pairs_are_those_of_each_task(prediction: str, count: int, weights: list[float]) -> None:
    tasks: list[Task] = [Pairs(weights[row], weights[row + 3], prediction) for row in range(3)]  # type: ignore[arg-type]
    outputs = {"head": logits(count, 2), "first": logits(count, 10), "second": logits(count, 10) + 1}
    digits = torch.stack([labels(count, 10), labels(count + 1, 10)[:, :count]], 2)
    targets = torch.cat([(digits[..., :1] <= digits[..., 1:]).long(), digits], 2)
    agree(tasks, outputs, targets)


def test_other_tasks_are_asked_each_for_itself() -> None:
    agree([Own(), Own(label_smoothing=0.1), Classification()], logits(6), labels(6))
    agree([Classification(), Classification("mse"), Classification()], logits(6), labels(6))


@given(count=st.integers(1, 130), classes=st.integers(2, 40))
def test_gradients_of_cross_entropy_are_those_of_autograd_to_the_bit(count: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(count + 1000 * classes)
    outputs = 3 * torch.randn(2, count, classes, generator=generator)
    targets = torch.randint(classes, (2, count), generator=generator)
    _, gradients = losses.cross_entropy(outputs, targets, torch.zeros(2, 1, 1), torch.ones(()))
    for own, labels, gradient in zip(outputs, targets, gradients, strict=True):
        leaf = own.clone().requires_grad_()
        torch.nn.functional.cross_entropy(leaf, labels).backward()  # type: ignore[no-untyped-call]
        assert leaf.grad is not None
        assert torch.equal(gradient, leaf.grad)


@given(count=st.integers(1, 130), classes=st.integers(2, 40), smoothing=st.sampled_from([0.0, 0.1]))
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_mean_losses_are_those_of_each_task_to_the_bit(loss: str, count: int, classes: int, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(count + 1000 * classes)
    outputs = 3 * torch.randn(3, count, classes, generator=generator)
    targets = torch.randint(classes, (count,), generator=generator)
    tasks = [Classification(loss, smoothing) for _ in range(3)]
    expected = [task.mean_loss(own, targets) for task, own in zip(tasks, outputs, strict=True)]
    assert losses.mean_losses(tasks, outputs, targets).tolist() == torch.stack(expected).tolist()
