from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from nnscan.models.build import count_parameters
from nnscan.models.cnn import ConvolutionBlock, cnn

torch.set_num_threads(1)

OPTIONS: dict[str, Any] = {
    "channels": [16, 32],
    "kernel_size": 3,
    "batch_norm": True,
    "dropout": 0.0,
    "skip": False,
    "hidden_units": 0,
}


def test_cnn_has_the_parameters_counted_by_hand() -> None:
    first, second = 16 * 9 + 2 * 16, 32 * 16 * 9 + 2 * 32  # no biases before batch normalisation
    assert count_parameters(cnn((1, 8, 8), 10, **OPTIONS)) == first + second + (32 * 2 * 2 + 1) * 10
    assert count_parameters(cnn((1, 28, 28), 10, **OPTIONS)) == first + second + (32 * 7 * 7 + 1) * 10


def test_cnn_takes_its_options() -> None:
    model = cnn((3, 8, 8), 4, **{**OPTIONS, "hidden_units": 12, "dropout": 0.1, "skip": True, "batch_norm": False})
    modules = list(model.modules())
    assert sum(isinstance(one, nn.Dropout) for one in modules) == 3  # two blocks and the dense layer
    assert not any(isinstance(one, nn.BatchNorm2d) for one in modules)
    assert [one.out_features for one in modules if isinstance(one, nn.Linear)] == [12, 4]
    assert [tuple(one.kernel_size) for one in modules if isinstance(one, nn.Conv2d)] == [(3, 3), (1, 1), (3, 3), (1, 1)]


@given(
    size=st.integers(1, 13),
    channels=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    kernel_size=st.integers(1, 6),
    skip=st.booleans(),
)
def test_cnn_fits_images_of_any_size(size: int, channels: list[int], kernel_size: int, skip: bool) -> None:
    options = {**OPTIONS, "channels": channels, "kernel_size": kernel_size, "skip": skip}
    model = cnn((2, size, size + 3), 4, **options).eval()
    assert model(torch.rand(2, 2, size, size + 3)).shape == (2, 4)


def test_a_block_is_its_formula_with_relu_before_pooling() -> None:
    block = ConvolutionBlock(2, 3, kernel_size=3, batch_norm=True, dropout=0.0, skip=True, pool=True).train()
    images = torch.randn(4, 2, 6, 6)
    convolved = functional.conv2d(images, block.convolution.weight, padding=1)
    mean, variance = convolved.mean((0, 2, 3), keepdim=True), convolved.var((0, 2, 3), unbiased=False, keepdim=True)
    shortcut = functional.conv2d(images, block.shortcut.weight)
    expected = functional.max_pool2d(functional.relu((convolved - mean) / (variance + 1e-5).sqrt() + shortcut), 2)
    torch.testing.assert_close(block(images), expected, rtol=1e-4, atol=1e-5)


def test_a_block_of_equal_channels_adds_its_input() -> None:
    block = ConvolutionBlock(2, 2, kernel_size=3, batch_norm=False, dropout=0.0, skip=True, pool=False)
    nn.init.zeros_(block.convolution.weight)
    nn.init.zeros_(block.convolution.bias)
    images = torch.rand(4, 2, 6, 6)
    torch.testing.assert_close(block(images), images)


def test_cnn_refuses_data_that_are_no_images() -> None:
    with pytest.raises(ValueError, match="Use 'mlp'"):
        cnn((64,), 10, **OPTIONS)
