"""Three networks of four 3x3 convolutions for photographs, pooled behind all but the first, and a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from nnscan.models.shapes import image_shape

NORMALIZED = 3
"""The first three convolutions are normalised, in the networks that have batch normalisation; the last is not."""


@dataclass(frozen=True)
class Plan:
    """What tells the three networks apart."""

    divisors: tuple[int, int, int, int]
    """`hidden_units` over the channels of each convolution."""

    batch_norm: bool


PLANS = {
    "cnn1": Plan((1, 1, 1, 1), batch_norm=False),
    "cnn2": Plan((1, 1, 1, 1), batch_norm=True),
    "cnn3": Plan((1, 2, 4, 4), batch_norm=True),
}


def plain_cnn(
    name: str, input_shape: Sequence[int], classes: int, *, hidden_units: int, dropout: float
) -> nn.Sequential:
    """Return the network `name` for images of shape (C, H, W); it gives logits of shape (N, classes).

    Parameters
    ----------
    name : "cnn1", "cnn2" or "cnn3"
        cnn1: four convolutions of `hidden_units` channels. cnn2: with batch normalisation behind the first three. cnn3:
        the same, with `hidden_units`, half, a quarter and a quarter of as many channels.
    hidden_units : int
        Channels of the first convolution; a multiple of 4 with "cnn3".
    dropout : float
        In front of the head.

    Raises
    ------
    ValueError
        Where the images are smaller than 8x8, or no images.
    """
    inputs, height, width = image_shape(input_shape, name, smallest=8)
    plan = PLANS[name]
    channels = [inputs, *(hidden_units // divisor for divisor in plan.divisors)]
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(channels)):
        normalized = plan.batch_norm and place < NORMALIZED
        layers += _block(before, after, normalized=normalized, pooled=place > 0)
    features = channels[-1] * (height // 8) * (width // 8)
    return nn.Sequential(*layers, nn.Dropout(dropout), nn.Flatten(), nn.Linear(features, classes))


def _block(inputs: int, outputs: int, *, normalized: bool, pooled: bool) -> list[nn.Module]:
    """Return convolution, batch normalisation, pooling, ReLU; pooling before ReLU gives the same numbers for less."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 3, padding=1)]
    layers += [nn.BatchNorm2d(outputs)] if normalized else []
    layers += [nn.MaxPool2d(2)] if pooled else []
    return [*layers, nn.ReLU()]
