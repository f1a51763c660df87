"""Dense layers in blocks with a bridge from each block's input to its output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from nnscan.models.linear import Linear


class BridgedBlock(nn.Module):
    """Linear, ReLU, dropout, Linear, plus the input (through a Linear where the sizes differ), ReLU.

    The dense analogue of a residual block (He et al. 2016, "Deep Residual Learning for Image Recognition", figure 2).
    """

    def __init__(self, inputs: int, outputs: int, *, dropout: float) -> None:
        super().__init__()
        self.path = nn.Sequential(Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout), Linear(outputs, outputs))
        self.bridge = nn.Identity() if inputs == outputs else Linear(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Return (N, outputs) of features (N, inputs)."""
        return (self.path(features) + self.bridge(features)).relu()  # type: ignore[no-any-return]


def skip_mlp(input_shape: Sequence[int], classes: int, *, widths: Sequence[int], dropout: float) -> nn.Sequential:
    """Return a network on the flattened input; it gives logits of shape (N, classes).

    Linear and ReLU to the first of `widths`, a `BridgedBlock` to each further one, and a Linear head.
    """
    first, *_ = widths
    blocks = [BridgedBlock(before, after, dropout=dropout) for before, after in pairwise(widths)]
    entry = [nn.Flatten(), Linear(math.prod(input_shape), first), nn.ReLU()]
    return nn.Sequential(*entry, *blocks, Linear(widths[-1], classes))
