"""Examples of a test for people to look at: the worst ones, some of each class, some at random, as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nnscan.data.normalization import Normalization
from nnscan.data.pictures import displayed, png
from nnscan.results.calibration import expected_calibration_error

if TYPE_CHECKING:
    import pyarrow as pa

WORST = 24
GALLERY = 24
OF_EACH_CLASS = 5
OF_ALL_CLASSES = 60
"""At most, of all classes together."""


@dataclass(frozen=True)
class Examined:
    """A test set, and what a network said of it."""

    images: Tensor
    """(N, ...), as stored."""

    labels: Tensor
    """(N,) int64."""

    probabilities: Tensor
    """(N, classes) float32."""

    @property
    def true_probabilities(self) -> Tensor:
        """What the network gave the true class of each example, (N,)."""
        return self.probabilities.gather(1, self.labels[:, None]).squeeze(1)

    @property
    def shows(self) -> bool:
        """Whether the examples are pictures: bytes, of one channel or of three."""
        return self.images.dtype == torch.uint8 and self.images.dim() == 4 and self.images.shape[1] in (1, 3)


def calibration_error(tested: Examined) -> float:
    """Return the expected calibration error of a test."""
    best = tested.probabilities.max(1)
    return expected_calibration_error(best.values.numpy(), (best.indices == tested.labels).numpy())


def examples_table(
    tested: Examined, network: nn.Module, normalization: Normalization, classes: Sequence[str], seed: int
) -> pa.Table:
    """Return the table `examples.parquet` of a test whose examples are pictures; its rows in the order of the test set.

    `index` in the test set, `label`, `prediction`, `probability` of the prediction, `true_probability`, `roles`
    ("worst", "gallery", "class"), and two PNG files: `image` as it is stored, `input` as the network sees it.
    """
    import pyarrow as pa

    roles = choose(tested, seed)
    rows = torch.tensor(sorted(roles))
    stored = tested.images[rows].cpu()
    probabilities, names = tested.probabilities[rows], pa.array(list(classes), pa.string())
    best = probabilities.max(1)
    return pa.table(
        {
            "index": pa.array(rows.tolist(), pa.int64()),
            "label": names.take(pa.array(tested.labels[rows].tolist())),
            "prediction": names.take(pa.array(best.indices.tolist())),
            "probability": pa.array(best.values.tolist(), pa.float64()),
            "true_probability": pa.array(tested.true_probabilities[rows].tolist(), pa.float64()),
            "roles": pa.array([roles[row] for row in rows.tolist()], pa.list_(pa.string())),
            "image": pa.array(map(png, stored), pa.binary()),
            "input": pa.array(map(png, displayed(seen(network, normalization, stored))), pa.binary()),
        }
    )


def choose(tested: Examined, seed: int) -> dict[int, list[str]]:
    """Return which examples are shown, and as what: indices in the test set with their roles."""
    generator = torch.Generator().manual_seed(seed)
    count = len(tested.labels)
    worst = torch.argsort(tested.true_probabilities, stable=True)[:WORST]
    gallery = torch.randperm(count, generator=generator)[:GALLERY]
    chosen = {"worst": worst, "gallery": gallery, "class": _of_classes(tested.labels, generator)}
    roles: dict[int, list[str]] = {}
    for role, rows in chosen.items():
        for row in rows.tolist():
            roles.setdefault(row, []).append(role)
    return roles


def _of_classes(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return some examples of each class that has any, drawn at random: as many of each."""
    order = torch.randperm(len(labels), generator=generator)
    classes = torch.unique(labels).tolist()
    each = max(1, min(OF_EACH_CLASS, OF_ALL_CLASSES // len(classes)))
    return torch.cat([order[labels[order] == one][:each] for one in classes])[:OF_ALL_CLASSES]


@torch.no_grad()
def seen(network: nn.Module, normalization: Normalization, images: Tensor) -> Tensor:
    """Return what `network` computes with of `images` as stored, (n, C, H, W) uint8: normalised, float32, on the CPU.

    A network that begins by fitting its inputs (a resize) has a method `fitted_input` that does this alone.
    """
    scale, shift = normalization.tensors(images.dim())
    inputs = images.float() * scale + shift
    fit = getattr(network, "fitted_input", None)
    return fit(inputs.to(next(network.parameters()).device)).cpu() if fit else inputs
