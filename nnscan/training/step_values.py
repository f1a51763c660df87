"""What `training.steps` asks of every step: loss and accuracy of its batch, norms of its gradients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nnscan.training.evaluate import sum_type
from nnscan.training.group import Group

LOSS, ACCURACY = MEANS = ("loss", "accuracy")
GRADIENT_NORM = "gradient_norm/"
"""Begins the name of a gradient's norm; the parameter's name, as in `named_parameters`, follows."""


@dataclass
class StepValues:
    """The values of a training's steps. Steps leave them on the device; they are read once, when an epoch is over."""

    names: tuple[str, ...]
    """Of all values of a step, in the order of the columns below."""

    parameters: tuple[nn.Parameter, ...]
    """Whose gradients are measured."""

    running: Tensor
    """(steps of an epoch, names): of the epoch that runs. Loss and accuracy are sums over this rank's examples, and
    rank 0 alone has the norms, which are the same on all: so the sum over the ranks is that of the whole batch."""

    epochs: list[Tensor] = field(default_factory=list)
    """(steps, names), float64 on the CPU: of each epoch that is over; accuracy and loss are means."""

    def start_epoch(self) -> None:
        """Forget the epoch before."""
        self.running.zero_()

    def add_share(self, step: int, loss: Tensor, hits: Tensor, examples: int) -> None:
        """Count some of the step's examples: their mean loss, and how many were classified rightly."""
        for name, value, weight in ((LOSS, loss, examples), (ACCURACY, hits, 1)):
            if name in self.names:
                self.running[step, self.names.index(name)].add_(value, alpha=weight)

    def add_norms(self, step: int, group: Group) -> None:
        """Measure the gradients, which all ranks have joined by now."""
        if self.parameters and group.rank == 0:
            gradients = [one.grad for one in self.parameters if one.grad is not None]  # none is: all are views
            norms = torch._foreach_norm(gradients)
            self.running[step, -len(norms) :] = torch.stack(norms)

    def end_epoch(self, examples: Sequence[int], group: Group) -> None:
        """Read what the steps left on the device; `examples` of each step, of all ranks."""
        values = group.add(self.running).to("cpu", torch.float64, copy=True)
        means = sum(name in MEANS for name in self.names)
        values[:, :means] /= torch.tensor(examples, dtype=torch.float64)[:, None]
        self.epochs.append(values)

    def of_epoch(self, epoch: int) -> dict[str, list[float]]:
        """Return the values of an epoch that is over, counted from 1: by name, one a step."""
        return dict(zip(self.names, self.epochs[epoch - 1].T.tolist(), strict=True))


def asked(training: dict[str, Any], model: nn.Module, steps: int, device: torch.device) -> StepValues | None:
    """Return where the values go that the table `training` asks for; None where it asks for none."""
    wanted = training.get("steps", [])
    if not wanted:
        return None
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    if "gradient_norms" not in wanted:
        trained = {}
    names = (*(name for name in MEANS if name in wanted), *(f"{GRADIENT_NORM}{name}" for name in trained))
    running = torch.zeros(steps, len(names), dtype=sum_type(device), device=device)
    return StepValues(names, tuple(trained.values()), running)
