"""What a classifier's outputs say."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(outputs: Tensor, loss: str) -> Tensor:
    """Return class probabilities (N, C), float32; each row sums to 1 and has its largest where the outputs have.

    Softmax of a network trained with "cross_entropy". With "mse" its outputs estimate the probabilities themselves:
    their positive parts, scaled to sum 1; softmax where no output is positive.
    """
    outputs = outputs.float()
    softmax = outputs.softmax(1)
    if loss != "mse":
        return softmax
    positive = outputs.clamp(min=0)
    total = positive.sum(1, keepdim=True)
    return torch.where(total > 0, positive / total, softmax)
