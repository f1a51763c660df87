"""The layers of networks of every kind."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnscan.models.build import build, count_parameters
from nnscan.models.layers import Layer, layers

torch.set_num_threads(1)

CNN = {
    "name": "cnn",
    "channels": [4, 6],
    "kernel_size": 3,
    "batch_norm": True,
    "dropout": 0.5,
    "skip": True,
    "hidden_units": 5,
}


def test_the_layers_of_a_small_network() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    assert layers(network, (1, 8, 8)) == [
        Layer("0", "Conv2d", "4x6x6", 40),
        Layer("1", "ReLU", "4x6x6", 0),
        Layer("2", "Flatten", "144", 0),
        Layer("3", "Linear", "3", 435),
    ]


class Odd(nn.Module):
    """Has a parameter of its own, a layer that it calls twice, one it never calls, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(7))
        self.first = nn.Linear(7, 7)
        self.second = nn.Linear(7, 7)
        self.second.weight = self.first.weight
        self.never = nn.Linear(2, 2)

    def forward(self, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = self.second(self.first(self.first(inputs + self.token)))
        return hidden, {"a": hidden[:, :2], "b": hidden[:, :3]}


def test_parameters_count_once_and_what_is_not_called_has_no_shape() -> None:
    assert layers(Odd(), (7,)) == [
        Layer("", "Odd", "7, 2, 3", 7),
        Layer("first", "Linear", "7", 56),
        Layer("second", "Linear", "7", 7),
        Layer("never", "Linear", "", 6),
    ]


@pytest.mark.parametrize(
    "model",
    [
        CNN,
        {"name": "mlp", "width": 4, "depth": 2, "dropout": 0.1, "activation": "relu"},
        {"name": "torchvision:resnet18", "weights": "none", "input_size": 64},
        {"name": "torchvision:vit_b_32", "weights": "none", "input_size": 224},
    ],
    ids=lambda one: one["name"],
)
def test_they_add_up_to_the_network_which_stays_as_it_was(model: dict[str, Any]) -> None:
    network = build(model, (3, 16, 16), 7)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = layers(network, (3, 16, 16))
    assert sum(layer.parameters for layer in found) == count_parameters(network)
    assert found[-1].output == "7"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
