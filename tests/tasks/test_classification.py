import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from nnscan.tasks.classification import Classification, first_column

CROSS_ENTROPY, MSE = Classification(), Classification("mse")


def test_cross_entropy_is_minus_the_log_of_the_true_probability() -> None:
    outputs = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]], dtype=torch.float64)
    loss = CROSS_ENTROPY.mean_loss(outputs, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_cross_entropy_with_smoothing_is_that_against_the_smoothed_target() -> None:
    outputs = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    target = torch.tensor([[0.1, 0.8, 0.1]], dtype=torch.float64)
    expected = -(target * outputs.log_softmax(1)).sum()
    loss = Classification(label_smoothing=0.3).mean_loss(outputs, torch.tensor([1]))
    assert loss.item() == pytest.approx(expected.item())


def test_mse_is_the_mean_over_examples_and_classes() -> None:
    outputs = torch.tensor([[0.5, 0.0], [1.0, 1.0]], dtype=torch.float64)
    assert MSE.mean_loss(outputs, torch.tensor([0, 1])).item() == pytest.approx((0.25 + 1.0) / 4)


def test_mse_with_smoothing_is_that_against_the_smoothed_target() -> None:
    outputs = torch.tensor([[0.1, 0.8, 0.1]], dtype=torch.float64)
    loss = Classification("mse", 0.3).mean_loss(outputs, torch.tensor([1]))
    assert loss.item() == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("task", [CROSS_ENTROPY, MSE], ids=lambda task: task.loss)
def test_bfloat16_outputs_give_a_float32_loss_and_float64_ones_keep_their_digits(task: Classification) -> None:
    outputs = torch.randn(4, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    assert task.mean_loss(outputs.bfloat16(), labels).dtype == torch.float32
    assert task.mean_loss(outputs, labels).dtype == torch.float64


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_torchs_to_the_last_bit(smoothing: float) -> None:
    """Between it and torch stands nothing that could round."""
    outputs, labels = torch.randn(50, 7), torch.arange(50) % 7
    found = Classification(label_smoothing=smoothing).mean_loss(outputs, labels)
    assert torch.equal(found, functional.cross_entropy(outputs, labels, label_smoothing=smoothing))
    assert CROSS_ENTROPY.scores(outputs) is outputs
    assert CROSS_ENTROPY.labels(labels) is labels


@given(
    rows=st.lists(st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    task=st.sampled_from([CROSS_ENTROPY, MSE]),
)
def test_probabilities_sum_to_one_and_keep_the_largest(rows: list[list[float]], task: Classification) -> None:
    outputs = torch.tensor(rows)
    found = task.probabilities(outputs)
    torch.testing.assert_close(found.sum(1), torch.ones(len(rows)))
    assert (found >= 0).all()
    assert (found.gather(1, outputs.argmax(1, keepdim=True))[:, 0] == found.max(1).values).all()


def test_outputs_of_mse_are_taken_as_probabilities() -> None:
    found = MSE.probabilities(torch.tensor([[0.6, 0.2, -0.1]]))
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25, 0.0]]))


@pytest.mark.parametrize(
    "targets", [torch.tensor([[1, 5], [0, 7]]), torch.tensor([[1.0, 0.5], [0.0, -2.0]])], ids=["whole", "fractions"]
)
def test_of_several_targets_the_first_is_the_class(targets: torch.Tensor) -> None:
    outputs = torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    assert first_column(targets).tolist() == [1, 0]
    assert torch.equal(
        CROSS_ENTROPY.mean_loss(outputs, targets), functional.cross_entropy(outputs, torch.tensor([1, 0]))
    )


def test_several_outputs_are_refused() -> None:
    with pytest.raises(TypeError, match="gives tuple; the task 'classification' takes one tensor"):
        CROSS_ENTROPY.scores((torch.zeros(2, 3), torch.zeros(2, 3)))
