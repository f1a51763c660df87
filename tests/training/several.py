"""A trial with two inputs, three outputs and two targets an example: data, network and task as a user writes them."""

from __future__ import annotations

from typing import Any

import torch
import trials
from torch import Tensor, nn
from torch.nn import functional

from nnscan.data.dataset import Dataset
from nnscan.data.packing import pack

SHAPES = ((1, 4, 8), (4, 8))
"""The upper half of a digit as an image, the lower one as features."""


class Several(nn.Module):
    """Gives what `kind` says: a tuple or a dict of class scores, a size, and what no loss reads."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.kind = kind
        self.image = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 6))
        self.features = nn.Linear(8, 6)
        self.head, self.size, self.unread = nn.Linear(12, 3), nn.Linear(12, 1), nn.Linear(12, 2)

    def forward(self, image: Tensor, features: Tensor) -> Any:
        """Return the outputs of images (N, 1, 4, 8) and features (N, 4, 8)."""
        hidden = torch.cat([self.image(image), self.features(features).sum(1)], 1).relu()
        found = {"head": self.head(hidden), "size": self.size(hidden), "unread": self.unread(hidden)}
        return found if self.kind == "dict" else tuple(found.values())


class InFloat64(nn.Module):
    """Computes in float64: so two trainings can be compared to the last digits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, *inputs: Tensor) -> Any:
        """Return what the network gives."""
        return self.network(*(values.double() for values in inputs))


def network(kind: str = "dict") -> nn.Module:
    """Return the network."""
    return InFloat64(Several(kind))


def plain_network(kind: str = "dict") -> nn.Module:
    """Return the network without batch normalisation, whose statistics are those of a part of a batch."""
    made = Several(kind)
    made.image[1] = nn.Identity()
    return InFloat64(made)


class Sized:
    """Which class, and how large."""

    def __init__(self, weight: float = 0.5) -> None:
        self.weight = weight

    def mean_loss(self, outputs: Any, targets: Tensor) -> Tensor:
        """Return cross-entropy plus a weighed square."""
        head, size = taken(outputs)
        square = (size[:, 0] - targets[:, 1]).square().mean()
        return functional.cross_entropy(head, targets[:, 0].long()) + self.weight * square

    def scores(self, outputs: Any) -> Tensor:
        """Return the head."""
        return taken(outputs)[0]

    def metrics(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        """Return how far the sizes are off."""
        return {"size_error": (taken(outputs)[1][:, 0] - targets[:, 1]).abs().mean()}


class PlainClassification:
    """What nnscan's own classification does, as a user would write it."""

    def mean_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy."""
        return functional.cross_entropy(outputs, targets)

    def scores(self, outputs: Tensor) -> Tensor:
        """Return the outputs."""
        return outputs


def taken(outputs: Any) -> tuple[Tensor, Tensor]:
    """Return head and size of a tuple or a dict."""
    return (outputs["head"], outputs["size"]) if isinstance(outputs, dict) else outputs[:2]


def dataset(tests: int = 30) -> Dataset:
    """Return the data set of `trials` cut in two, with the mean brightness as a second target."""
    whole = trials.dataset(tests=tests)
    return Dataset(
        images=_packed(whole.images),
        labels=whole.labels,
        test_images=_packed(whole.test_images),
        test_labels=whole.test_labels,
        classes=whole.classes,
        fingerprint=whole.fingerprint,
        several_targets=(_targets(whole.images, whole.labels), _targets(whole.test_images, whole.test_labels)),
        input_shapes=SHAPES,
    )


def settings(kind: str = "dict", **changes: Any) -> dict[str, Any]:
    """Return the changes that make a trial of `trials` this one."""
    return {
        "model": {"name": "several:network", "arguments": {"kind": kind}},
        "task": {"name": "several:Sized", "arguments": {"weight": 0.5}, "metrics": ["size_error"]},
        **changes,
    }


def _packed(images: Tensor) -> Tensor:
    return pack([images[:, :, :4] / 100, images[:, 0, 4:] / 100])


def _targets(images: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([labels.float(), images.float().mean((1, 2, 3)) / 100], 1)
