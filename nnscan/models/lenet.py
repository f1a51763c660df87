"""Networks in the manner of LeNet-5: unpadded convolutions, each pooled, then dense layers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from nnscan.models.mlp import dense
from nnscan.models.shapes import image_shape


def lenet(
    input_shape: Sequence[int], classes: int, *, channels: Sequence[int], kernel_size: int, dense_units: Sequence[int]
) -> nn.Sequential:
    """Return a network for images of shape (C, H, W); it gives logits of shape (N, classes).

    Convolution, ReLU and 2x2 pooling for each entry of `channels`, then Linear and ReLU for each of `dense_units`
    (LeCun et al. 1998, "Gradient-based learning applied to document recognition", figure 2, with ReLU).

    Raises
    ------
    ValueError
        Where nothing is left of the images before the last convolution.
    """
    inputs, height, width = image_shape(input_shape, "lenet")
    layers: list[nn.Module] = []
    for before, after in pairwise([inputs, *channels]):
        height, width = (height - kernel_size + 1) // 2, (width - kernel_size + 1) // 2
        # Pooling before ReLU gives the same numbers for a quarter of ReLU's work.
        layers += [nn.Conv2d(before, after, kernel_size), nn.MaxPool2d(2), nn.ReLU()]
    if min(height, width) < 1:
        raise ValueError(
            f"model.name = 'lenet' with {len(channels)} convolutions of {kernel_size} x {kernel_size} leaves nothing of"
            f" images of {input_shape[1]} x {input_shape[2]}. Set model.kernel_size smaller, or fewer model.channels."
        )
    units = [channels[-1] * height * width, *dense_units]
    hidden = [layer for before, after in pairwise(units) for layer in dense(before, after, dropout=0.0)]
    return nn.Sequential(*layers, nn.Flatten(), *hidden, nn.Linear(units[-1], classes))
