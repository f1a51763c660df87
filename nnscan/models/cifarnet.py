"""An AlexNet for small photographs: five convolutions, two wide dense layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nnscan.models.shapes import image_shape

GRID = 6
"""Features are averaged to a grid of 6 x 6, as AlexNet's are (Krizhevsky 2014, arXiv:1404.5997)."""

DENSE_UNITS = 1024


def cifarnet(input_shape: Sequence[int], classes: int, *, dropout: float) -> nn.Sequential:
    """Return a network for images of shape (C, H, W) of 4 pixels or more; it gives logits of shape (N, classes).

    Batch normalisation stands behind ReLU and pooling, so neither can trade places with it.
    """
    inputs, _, _ = image_shape(input_shape, "cifarnet", smallest=4)
    return nn.Sequential(
        *_convolution(inputs, 16),
        *_convolution(16, 32),
        nn.MaxPool2d(2),
        *_convolution(32, 64),
        nn.BatchNorm2d(64),
        *_convolution(64, 128),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(128),
        *_convolution(128, 256),
        nn.BatchNorm2d(256),
        nn.AdaptiveAvgPool2d(GRID),
        nn.Flatten(),
        *_dense(256 * GRID * GRID, dropout),
        *_dense(DENSE_UNITS, dropout),
        nn.Linear(DENSE_UNITS, classes),
    )


def _convolution(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]


def _dense(inputs: int, dropout: float) -> list[nn.Module]:
    return [nn.Dropout(dropout), nn.Linear(inputs, DENSE_UNITS), nn.ReLU()]
