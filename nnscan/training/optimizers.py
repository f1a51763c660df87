"""torch's optimisers on flat parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from nnscan.training.parameters import FlatParameters

FUSED_DEVICES = {"cpu", "cuda", "mps"}
"""Where torch has kernels that do a whole step at once. They ignore the strides of gradients (torch 2.15 on the CPU
writes wrong weights, silently, from a transposed one): the flat tensors are contiguous."""


def optimizer(settings: Mapping[str, Any], parameters: FlatParameters) -> Optimizer:
    """Return the optimiser that the table `optimizer` describes, for all parameters at once."""
    values = parameters.values
    fused = values[0].device.type in FUSED_DEVICES and all(value.is_floating_point() for value in values)
    options: dict[str, Any] = {
        "lr": settings["learning_rate"],
        "weight_decay": settings["weight_decay"],
        "fused": fused,
    }
    if settings["name"] == "sgd":
        return torch.optim.SGD(values, momentum=settings["momentum"], nesterov=settings["nesterov"], **options)
    kind: type[torch.optim.Adam] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings["name"]]
    return kind(values, betas=tuple(settings["betas"]), eps=settings["epsilon"], **options)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Make `learning_rate` that of the optimiser's next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
