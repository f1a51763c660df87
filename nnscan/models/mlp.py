"""Multilayer perceptrons: dense layers on the flattened image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.GELU,
}
"""The activations a scan file can name."""


def mlp(
    input_shape: Sequence[int], classes: int, *, width: int, depth: int, dropout: float, activation: str
) -> nn.Sequential:
    """Return a network of `depth` hidden layers of `width` units; it gives logits of shape (N, classes).

    Each hidden layer is Linear, activation, and Dropout where `dropout` is above 0. Depth 0 is a linear classifier.
    """
    widths = [math.prod(input_shape), *[width] * depth]
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += dense(inputs, outputs, dropout=dropout, activation=activation)
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))


def dense(inputs: int, outputs: int, *, dropout: float, activation: str = "relu") -> list[nn.Module]:
    """Return the modules of one hidden layer: Linear, activation, and Dropout where `dropout` is above 0."""
    layers = [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return [*layers, nn.Dropout(dropout)] if dropout else layers
