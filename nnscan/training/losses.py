"""Losses of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Task = Mapping[str, Any]
"""The table `task`, resolved: `loss` and `label_smoothing`."""


def mean_loss(outputs: Tensor, labels: Tensor, task: Task) -> Tensor:
    """Return the mean loss of a batch: a scalar, float32 at least.

    Parameters
    ----------
    outputs : Tensor of shape (N, C)
        What the network gives: logits, or with "mse" estimates of the one-hot labels.
    labels : Tensor of shape (N,), int64
        True classes.
    task : mapping
        `loss` is "cross_entropy", or "mse": the mean over examples and classes of (output - one-hot)^2.
        `label_smoothing` s makes the targets (1 - s) one-hot + s / C (Szegedy et al. 2016, "Rethinking the Inception
        Architecture", section 7).
    """
    outputs = _at_least_float32(outputs)
    if task["loss"] == "mse":
        return functional.mse_loss(outputs, _targets(outputs, labels, task["label_smoothing"]))
    return functional.cross_entropy(outputs, labels, label_smoothing=task["label_smoothing"])


def _targets(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    classes = outputs.shape[1]
    targets = torch.full_like(outputs, smoothing / classes)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)


def _at_least_float32(outputs: Tensor) -> Tensor:
    """bfloat16 holds two to three digits: too few to sum a softmax in."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
