import math

import pytest
import torch
from torch import nn

from nnscan.tasks.classification import Classification
from nnscan.training.evaluate import batch_size, evaluate, outputs

TASK = Classification()


def pairs(sizes: list[int]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return outputs and labels of 10 examples of 4 classes (none of class 3) in batches of `sizes`."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(10, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 0, 0, 1])
    return list(zip(logits.split(sizes), labels.split(sizes), strict=True))


def test_evaluation_is_the_mean_over_examples_counted_by_hand() -> None:
    (logits, labels), *_ = pairs([10])
    found = evaluate(pairs([10]), 4, TASK)
    losses = [-logits[i].log_softmax(0)[label].item() for i, label in enumerate(labels.tolist())]
    hits = [int(logits[i].argmax()) == label for i, label in enumerate(labels.tolist())]
    assert found.loss == pytest.approx(sum(losses) / 10)
    assert found.accuracy == sum(hits) / 10
    for label in range(3):
        mine = [hit for hit, its in zip(hits, labels.tolist(), strict=True) if its == label]
        assert found.class_accuracy[label] == sum(mine) / len(mine)
    assert math.isnan(found.class_accuracy[3])


@pytest.mark.parametrize("sizes", [[1] * 10, [7, 3], [9, 1]], ids=str)
def test_batches_of_unequal_size_change_nothing(sizes: list[int]) -> None:
    whole, cut = evaluate(pairs([10]), 4, TASK), evaluate(pairs(sizes), 4, TASK)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-6)
    assert cut.accuracy == whole.accuracy
    assert cut.class_accuracy[:3] == whole.class_accuracy[:3]


def test_metrics_are_named_after_the_part() -> None:
    names = evaluate(pairs([10]), 4, TASK).metrics("test")
    assert list(names) == ["test_loss", "test_accuracy", "test_class_accuracy"]


def test_outputs_have_no_graph() -> None:
    assert not outputs(nn.Linear(3, 2), torch.randn(5, 3), "float32").requires_grad


def test_a_rank_without_examples_adds_nothing() -> None:
    none = [(torch.full((0, 4), math.nan), torch.zeros(0, dtype=torch.int64))]
    assert repr(evaluate([*pairs([10]), *none], 4, TASK)) == repr(evaluate(pairs([10]), 4, TASK))


def test_bfloat16_computes_in_bfloat16() -> None:
    assert outputs(nn.Linear(3, 2), torch.randn(5, 3), "bfloat16").dtype == torch.bfloat16


def test_batch_size_falls_with_the_size_of_an_example() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert batch_size((1, 28, 28), cpu) == 167
    assert batch_size((3, 32, 32), cpu) == 42
    assert batch_size((3, 128, 128), cpu) == 16
    assert batch_size((3, 128, 128), cuda) == 341
