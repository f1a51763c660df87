"""A network of convolutions alone: its last one has a map for each class, whose mean is the class's logit."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nnscan.models.shapes import image_shape


def fully_convolutional(
    input_shape: Sequence[int], classes: int, *, channels: Sequence[int], kernel_size: int, dropout: float
) -> nn.Sequential:
    """Return a network for images of shape (C, H, W); it gives logits of shape (N, classes).

    For each entry of `channels` convolution, batch normalisation, pooling (while both sides have two pixels or more),
    ReLU and dropout of whole channels; then a convolution to a map a class and global average pooling (Lin et al.
    2014, "Network in network", section 3.2). Without a dense layer the maps are class activation maps (Zhou et al.
    2016, "Learning deep features for discriminative localization").
    """
    inputs, height, width = image_shape(input_shape, "fully_convolutional")
    layers: list[nn.Module] = []
    for outputs in channels:
        pool = min(height, width) >= 2
        layers += [nn.Conv2d(inputs, outputs, kernel_size, padding="same"), nn.BatchNorm2d(outputs)]
        # Pooling before ReLU and dropout gives the same numbers for a quarter of their work.
        layers += [nn.MaxPool2d(2)] if pool else []
        layers += [nn.ReLU(), *([nn.Dropout2d(dropout)] if dropout else [])]
        inputs, height, width = outputs, height // (1 + pool), width // (1 + pool)
    maps = nn.Conv2d(inputs, classes, kernel_size, padding="same")
    return nn.Sequential(*layers, maps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
