"""Networks that compare two images: one that sees both at once, and one that looks at each with the same weights.

Those of the EPFL course EE-559, "Deep learning", mini-project 1 (2020), as a group of its students built them. Their
networks also sent the last outputs through ReLU, which leaves a dead output at its loss for good: these do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

DIGITS = 10
"""Classes of one image."""


class Block(nn.Module):
    """Convolution without padding, pooling, ReLU, batch normalisation; the shortcut adds ReLU of a dense layer.

    That dense layer sees the images themselves. Pooling, normalisation and shortcut as asked.
    """

    def __init__(
        self, inputs: tuple[int, int, int], outputs: int, kernel_size: int, *, pool: bool, batch_norm: bool, seen: int
    ) -> None:
        super().__init__()
        channels, height, _ = inputs
        self.side = (height - kernel_size + 1) // (1 + pool)
        self.convolution = nn.Conv2d(channels, outputs, kernel_size)
        self.pooling = nn.MaxPool2d(2) if pool else nn.Identity()
        self.normalization = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()
        self.shortcut = nn.Linear(seen, outputs * self.side**2) if seen else None

    def forward(self, features: Tensor, images: Tensor) -> Tensor:
        """Return (N, outputs, side, side) of features (N, channels, H, W) and the images that they come from."""
        features = self.normalization(self.pooling(self.convolution(features)).relu())
        if self.shortcut is not None:
            features = features + self.shortcut(images.flatten(1)).relu().view(features.shape)
        return features


class Backbone(nn.Module):
    """Two blocks, of which the second leaves one pixel, and a dense layer."""

    def __init__(
        self,
        image: tuple[int, int, int],
        *,
        first_channels: int,
        second_channels: int,
        hidden_units: int,
        batch_norm: bool,
        skip: bool,
    ) -> None:
        super().__init__()
        seen = math.prod(image) if skip else 0
        self.first = Block(image, first_channels, 3, pool=True, batch_norm=batch_norm, seen=seen)
        side = self.first.side
        self.second = Block(
            (first_channels, side, side), second_channels, side, pool=False, batch_norm=batch_norm, seen=seen
        )
        self.dense = nn.Linear(second_channels, hidden_units)
        self.normalization = nn.BatchNorm1d(hidden_units) if batch_norm else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, hidden_units) of images (N, C, H, W)."""
        features = self.second(self.first(images, images), images)
        return self.normalization(self.dense(features.flatten(1)).relu())  # type: ignore[no-any-return]


class Siamese(nn.Module):
    """The same backbone reads both images; a head compares what it reads."""

    def __init__(self, backbone: Backbone, hidden_units: int, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.digits = nn.Linear(hidden_units, DIGITS)
        self.head = nn.Linear(2 * DIGITS, classes)

    def forward(self, pairs: Tensor) -> dict[str, Tensor]:
        """Return logits of pairs (N, 2, H, W): `head` (N, classes), and of each image `first` and `second` (N, 10).

        Both images go through the backbone as one batch: its statistics are those of all of them.
        """
        digits = self.digits(self.backbone(pairs.flatten(0, 1)[:, None])).view(-1, 2, DIGITS)
        return {"head": self.head(digits.flatten(1).relu()), "first": digits[:, 0], "second": digits[:, 1]}


def pair(
    input_shape: Sequence[int],
    classes: int,
    *,
    first_channels: int,
    second_channels: int,
    hidden_units: int,
    batch_norm: bool,
    skip: bool,
) -> nn.Sequential:
    """Return a network that sees both images of a pair (2, H, H) as channels; it gives logits (N, classes)."""
    side = _side(input_shape)
    backbone = Backbone(
        (2, side, side),
        first_channels=first_channels,
        second_channels=second_channels,
        hidden_units=hidden_units,
        batch_norm=batch_norm,
        skip=skip,
    )
    return nn.Sequential(backbone, nn.Linear(hidden_units, classes))


def siamese(
    input_shape: Sequence[int],
    classes: int,
    *,
    first_channels: int,
    second_channels: int,
    hidden_units: int,
    batch_norm: bool,
    skip: bool,
) -> Siamese:
    """Return a network for pairs of digits (2, H, H) that shares its weights between the two."""
    side = _side(input_shape)
    backbone = Backbone(
        (1, side, side),
        first_channels=first_channels,
        second_channels=second_channels,
        hidden_units=hidden_units,
        batch_norm=batch_norm,
        skip=skip,
    )
    return Siamese(backbone, hidden_units, classes)


def _side(input_shape: Sequence[int]) -> int:
    """Return the pixels of a side of both images; ValueError where the data are no such pairs."""
    if len(input_shape) != 3 or input_shape[0] != 2 or input_shape[1] != input_shape[2] or input_shape[1] < 4:
        raise ValueError(
            "model.name = 'pair' and 'siamese' take two square grey images, (2, H, H) of 4 pixels and more; the data"
            f' have {tuple(input_shape)}. Use data.name = "mnist_pairs", or another model.'
        )
    return input_shape[1]
