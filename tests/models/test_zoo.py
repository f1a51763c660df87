"""The networks of published scans: layers as described, parameters as counted there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from nnscan.models.build import ZOO, build, count_parameters
from nnscan.models.skip_mlp import BridgedBlock

torch.set_num_threads(1)

MNIST, CIFAR, PHOTOGRAPH, IMAGENETTE = (1, 28, 28), (3, 32, 32), (3, 128, 128), (3, 224, 224)

DENSE = {"dropout": 0.0, "activation": "relu"}

PUBLISHED: list[tuple[str, dict[str, Any], tuple[int, ...], int, int]] = [
    ("mlp", {"width": 128, "depth": 2, **DENSE}, PHOTOGRAPH, 2, 6_308_354),
    ("mlp", {"width": 256, "depth": 3, **DENSE}, PHOTOGRAPH, 2, 12_715_266),
    ("mlp", {"width": 16, "depth": 2, "dropout": 0.0, "activation": "sigmoid"}, MNIST, 10, 13_002),
    ("mlp", {"width": 64, "depth": 2, **DENSE}, MNIST, 10, 55_050),
    ("skip_mlp", {"widths": [128, 64, 64], "dropout": 0.5}, MNIST, 10, 130_122),
    ("lenet", {"channels": [6, 16], "kernel_size": 5, "dense_units": [100, 50]}, CIFAR, 10, 48_532),
    (
        "fully_convolutional",
        {"channels": [64, 128, 256, 128, 64], "kernel_size": 3, "dropout": 0.3},
        CIFAR,
        10,
        746_698,
    ),
    ("fully_convolutional", {"channels": [64, 64, 64], "kernel_size": 3, "dropout": 0.3}, IMAGENETTE, 10, 81_802),
    ("cifarnet", {"dropout": 0.5}, CIFAR, 10, 10_891_562),
]
"""Options, shape of an example, classes, and the number of parameters that was published."""

ROUNDED = [("cnn1", 128, 512), ("cnn1", 256, 1908), ("cnn2", 128, 513), ("cnn2", 256, 1910), ("cnn3", 128, 122)]
"""Published in thousands, of images of 128 x 128."""


@pytest.mark.parametrize(("name", "options", "shape", "classes", "parameters"), PUBLISHED)
def test_it_has_as_many_parameters_as_were_published(
    name: str, options: dict[str, Any], shape: tuple[int, ...], classes: int, parameters: int
) -> None:
    assert count_parameters(ZOO[name](shape, classes, **options)) == parameters


@pytest.mark.parametrize(("name", "hidden_units", "thousands"), [*ROUNDED, ("cnn3", 256, 447)])
def test_plain_cnns_have_as_many_parameters_as_were_published(name: str, hidden_units: int, thousands: int) -> None:
    model = ZOO[name](PHOTOGRAPH, 2, hidden_units=hidden_units, dropout=0.5)
    assert round(count_parameters(model) / 1000) == thousands


def kinds(model: nn.Module) -> list[str]:
    return [type(one).__name__ for one in model.modules() if not list(one.children())]


def test_cnn2_normalises_its_first_three_convolutions_and_pools_behind_the_last_three() -> None:
    first, pooled = ["Conv2d", "BatchNorm2d", "ReLU"], ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
    head = ["Dropout", "Flatten", "Linear"]
    model = ZOO["cnn2"]((3, 16, 16), 2, hidden_units=4, dropout=0.5)
    assert kinds(model) == [*first, *pooled, *pooled, "Conv2d", "MaxPool2d", "ReLU", *head]


def test_cnn3_is_its_formula() -> None:
    model = ZOO["cnn3"]((3, 16, 16), 2, hidden_units=8, dropout=0.5).eval()
    convolutions = [one for one in model if isinstance(one, nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [8, 4, 2, 2]
    images = torch.randn(4, 3, 16, 16)
    features = images
    for place, convolution in enumerate(convolutions):
        features = functional.conv2d(features, convolution.weight, convolution.bias, padding=1)
        features = (features / (1 + 1e-5) ** 0.5 if place < 3 else features).relu()  # statistics as they start: 0 and 1
        features = functional.max_pool2d(features, 2) if place else features
    torch.testing.assert_close(model(images), model[-1](features.flatten(1)))


def test_a_bridged_block_is_its_formula() -> None:
    for inputs, outputs in [(5, 3), (4, 4)]:
        block = BridgedBlock(inputs, outputs, dropout=0.5).eval()
        features = torch.randn(7, inputs)
        first, second = block.path[0], block.path[-1]
        path = (features @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
        bridge = features if inputs == outputs else features @ block.bridge.weight.T + block.bridge.bias
        torch.testing.assert_close(block(features), (path + bridge).relu())


def test_logits_of_the_fully_convolutional_network_are_the_means_of_its_last_maps() -> None:
    model = ZOO["fully_convolutional"]((3, 8, 8), 4, channels=[6, 5], kernel_size=3, dropout=0.3).eval()
    maps: list[Tensor] = []
    (last,) = [one for one in model if isinstance(one, nn.Conv2d)][-1:]
    last.register_forward_hook(lambda module, inputs, outputs: maps.append(outputs))
    logits = model(torch.randn(3, 3, 8, 8))
    assert maps[0].shape == (3, 4, 2, 2)
    torch.testing.assert_close(logits, maps[0].mean((2, 3)))
    assert (logits < 0).any()  # no ReLU on what the loss sees


def test_fully_convolutional_network_takes_images_of_any_size() -> None:
    model = ZOO["fully_convolutional"]((1, 1, 3), 2, channels=[2, 2], kernel_size=3, dropout=0.0)
    assert model(torch.randn(2, 1, 1, 3)).shape == (2, 2)


def test_an_output_sigmoid_keeps_outputs_between_0_and_1() -> None:
    options = {"width": 16, "depth": 2, "dropout": 0.0, "activation": "sigmoid"}
    plain, bounded = (
        build({"name": "mlp", **options, "output_activation": last}, MNIST, 10, seed=3) for last in ("none", "sigmoid")
    )
    images = torch.randn(5, *MNIST)
    torch.testing.assert_close(bounded(images), plain(images).sigmoid())


@pytest.mark.parametrize(
    ("name", "options", "shape", "told"),
    [
        ("cnn1", {"hidden_units": 4, "dropout": 0.5}, (3, 7, 8), "8 x 8 pixels or more; the data have 7 x 8"),
        ("lenet", {"channels": [6, 16], "kernel_size": 5, "dense_units": [9]}, (1, 8, 8), "leaves nothing of images"),
        ("cifarnet", {"dropout": 0.5}, (64,), "Use 'mlp'"),
        ("fully_convolutional", {"channels": [6], "kernel_size": 3, "dropout": 0.0}, (64,), "Use 'mlp'"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    name: str, options: dict[str, Any], shape: tuple[int, ...], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        ZOO[name](shape, 2, **options)
