"""A network of several inputs, as a training sees it: one that takes one row an example."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nnscan.data.packing import Shapes, unpack


class SeveralInputs(nn.Module):
    """Takes the packed examples (N, features) and hands their inputs to a network, one argument each."""

    def __init__(self, network: nn.Module, shapes: Shapes) -> None:
        super().__init__()
        self.network = network
        self.shapes = shapes

    def forward(self, packed: Tensor) -> Any:
        """Return what the network gives."""
        return self.network(*unpack(packed, self.shapes))
