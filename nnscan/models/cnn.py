"""Small convolutional networks: one block for each entry of `channels`, then dense layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nnscan.models.mlp import dense
from nnscan.models.shapes import image_shape


class ConvolutionBlock(nn.Module):
    """Convolution, batch normalisation, shortcut, pooling, ReLU, dropout; all but the first and ReLU as asked.

    The shortcut adds the block's input before pooling, through a 1x1 convolution where the channels differ
    (He et al. 2016, "Deep Residual Learning for Image Recognition", section 3.3, option B).
    """

    def __init__(
        self, inputs: int, outputs: int, *, kernel_size: int, batch_norm: bool, dropout: float, skip: bool, pool: bool
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel_size, padding="same", bias=not batch_norm)
        self.normalization = nn.BatchNorm2d(outputs) if batch_norm else nn.Identity()
        self.shortcut = _shortcut(inputs, outputs) if skip else None
        # Pooling before ReLU gives the same numbers (both are monotone) for a quarter of ReLU's work.
        self.pooling = nn.MaxPool2d(2) if pool else nn.Identity()
        self.activation = nn.ReLU()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Return (N, outputs, H/2, W/2), or (N, outputs, H, W) without pooling."""
        features = self.normalization(self.convolution(images))
        if self.shortcut is not None:
            features = features + self.shortcut(images)
        return self.dropout(self.activation(self.pooling(features)))  # type: ignore[no-any-return]


def cnn(
    input_shape: Sequence[int],
    classes: int,
    *,
    channels: Sequence[int],
    kernel_size: int,
    batch_norm: bool,
    dropout: float,
    skip: bool,
    hidden_units: int,
) -> nn.Sequential:
    """Return a network for images of shape (C, H, W); it gives logits of shape (N, classes).

    Each block halves the image while both sides have two pixels or more. The features are flattened, not averaged: on
    28x28 digits two blocks leave 7x7, whose positions matter. `hidden_units` above 0 puts a dense layer
    before the head.
    """
    inputs, height, width = image_shape(input_shape, "cnn")
    blocks: list[nn.Module] = []
    for outputs in channels:
        pool = min(height, width) >= 2
        blocks.append(
            ConvolutionBlock(
                inputs,
                outputs,
                kernel_size=kernel_size,
                batch_norm=batch_norm,
                dropout=dropout,
                skip=skip,
                pool=pool,
            )
        )
        inputs, height, width = outputs, height // (1 + pool), width // (1 + pool)
    return nn.Sequential(*blocks, *_head(inputs * height * width, classes, hidden_units=hidden_units, dropout=dropout))


def _head(features: int, classes: int, *, hidden_units: int, dropout: float) -> list[nn.Module]:
    if not hidden_units:
        return [nn.Flatten(), nn.Linear(features, classes)]
    return [nn.Flatten(), *dense(features, hidden_units, dropout=dropout), nn.Linear(hidden_units, classes)]


def _shortcut(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)
