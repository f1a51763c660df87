"""Multilayer perceptrons: dense layers on the flattened image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from nnscan.models.linear import Linear

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}
"""The activations a scan file can name."""


def mlp(
    input_shape: Sequence[int],
    classes: int,
    *,
    width: int,
    depth: int,
    dropout: float,
    activation: str,
    output_activation: str = "none",
) -> nn.Sequential:
    """Return a network of `depth` hidden layers of `width` units; it gives outputs of shape (N, classes).

    Each hidden layer is Linear, activation, and Dropout where `dropout` is above 0. Depth 0 is a linear classifier. The
    outputs are logits, or go through `output_activation`: a sigmoid keeps them in (0, 1), as one-hot targets are.
    """
    widths = [math.prod(input_shape), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += dense(inputs, outputs, dropout=dropout, activation=activation)
    output = [] if output_activation == "none" else [ACTIVATIONS[output_activation]()]
    return nn.Sequential(*layers, Linear(widths[-1], classes), *output)


def dense(inputs: int, outputs: int, *, dropout: float, activation: str = "relu") -> list[nn.Module]:
    """Return the modules of one hidden layer: Linear, activation, and Dropout where `dropout` is above 0."""
    layers = [Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return [*layers, nn.Dropout(dropout)] if dropout else layers
