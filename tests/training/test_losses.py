import math

import pytest
import torch

from nnscan.training.losses import mean_loss

CROSS_ENTROPY = {"loss": "cross_entropy", "label_smoothing": 0.0}
MSE = {"loss": "mse", "label_smoothing": 0.0}


def test_cross_entropy_is_minus_the_log_of_the_true_probability() -> None:
    outputs = torch.tensor([[0.0, 0.0], [math.log(3.0), 0.0]], dtype=torch.float64)
    loss = mean_loss(outputs, torch.tensor([0, 1]), CROSS_ENTROPY)
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_cross_entropy_with_smoothing_is_that_against_the_smoothed_target() -> None:
    outputs = torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)
    target = torch.tensor([[0.1, 0.8, 0.1]], dtype=torch.float64)
    expected = -(target * outputs.log_softmax(1)).sum()
    loss = mean_loss(outputs, torch.tensor([1]), {"loss": "cross_entropy", "label_smoothing": 0.3})
    assert loss.item() == pytest.approx(expected.item())


def test_mse_is_the_mean_over_examples_and_classes() -> None:
    outputs = torch.tensor([[0.5, 0.0], [1.0, 1.0]], dtype=torch.float64)
    assert mean_loss(outputs, torch.tensor([0, 1]), MSE).item() == pytest.approx((0.25 + 1.0) / 4)


def test_mse_with_smoothing_is_that_against_the_smoothed_target() -> None:
    outputs = torch.tensor([[0.1, 0.8, 0.1]], dtype=torch.float64)
    loss = mean_loss(outputs, torch.tensor([1]), {"loss": "mse", "label_smoothing": 0.3})
    assert loss.item() == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("task", [CROSS_ENTROPY, MSE], ids=lambda task: task["loss"])
def test_bfloat16_outputs_give_a_float32_loss_and_float64_ones_keep_their_digits(task: dict[str, object]) -> None:
    outputs = torch.randn(4, 3, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 0])
    assert mean_loss(outputs.bfloat16(), labels, task).dtype == torch.float32
    assert mean_loss(outputs, labels, task).dtype == torch.float64
