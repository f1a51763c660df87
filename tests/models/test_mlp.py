import pytest
import torch
from torch import nn

from nnscan.models.mlp import ACTIVATIONS, mlp


def kinds(model: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in model]


def test_mlp_has_the_layers_asked_for() -> None:
    model = mlp((1, 4, 4), 3, width=5, depth=2, dropout=0.25, activation="tanh")
    assert kinds(model) == ["Flatten", "Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    assert [tuple(layer.weight.shape) for layer in model if isinstance(layer, nn.Linear)] == [(5, 16), (5, 5), (3, 5)]
    assert model[3].p == 0.25


def test_mlp_without_dropout_has_no_such_layer_and_with_depth_0_is_linear() -> None:
    assert kinds(mlp((16,), 3, width=5, depth=1, dropout=0.0, activation="relu")) == [
        "Flatten",
        "Linear",
        "ReLU",
        "Linear",
    ]
    assert kinds(mlp((16,), 3, width=5, depth=0, dropout=0.5, activation="relu")) == ["Flatten", "Linear"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_mlp_takes_every_activation(activation: str) -> None:
    model = mlp((1, 4, 4), 3, width=5, depth=1, dropout=0.0, activation=activation)
    assert model(torch.rand(7, 1, 4, 4)).shape == (7, 3)
