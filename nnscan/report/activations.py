"""Where a network looked: class activation maps of examples, by the network in a model folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import TYPE_CHECKING

import numpy as np

from nnscan.report.examples import CLASS, WORST, Example, by_class, examples
from nnscan.report.material import ModelFolder
from nnscan.results.selection import Floats

if TYPE_CHECKING:
    from torch import Tensor

PANELS = 12
WORST_PANELS = 4
"""So many of the panels show what the network is most wrong about."""

IMAGES_AT_A_TIME = 4
"""What a network computes between its layers is kept for the gradients: 200 MB an image of a ResNet50."""


@dataclass(frozen=True, kw_only=True)
class Activation:
    """A picture, and where the network saw the class that it predicts."""

    example: Example
    map: Floats
    """(H, W) of the picture, from 0 to 1."""


def activations(model: ModelFolder) -> list[Activation]:
    """Return maps of some examples of a model: of each class in turn, then of the worst; none without convolutions.

    Raises
    ------
    NnscanError
        Where the network cannot be built here, or gives no single output a class.
    """
    if model.examples is None or not _has_convolution(model):
        return []
    chosen = choose(examples(model.examples, CLASS), examples(model.examples, WORST), model.classes)
    return list(_maps(model, chosen)) if chosen else []


def choose(of_classes: Sequence[Example], worst: Sequence[Example], classes: Sequence[str]) -> list[Example]:
    """Return `PANELS` examples: of each class the first, then the second, ..., and at last the worst."""
    rounds = zip_longest(*by_class(of_classes, classes).values())
    turns = (example for one in rounds for example in one if example is not None)
    bad = worst[:WORST_PANELS]
    taken = {example.index for example in bad}
    return [*islice((one for one in turns if one.index not in taken), PANELS - len(bad)), *bad]


def _has_convolution(model: ModelFolder) -> bool:
    """Whether a weight has four dimensions; the file's head tells it, no network is built for that."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(model.path / "model.safetensors", "numpy") as file:
            return any(len(file.get_slice(name).get_shape()) == 4 for name in file.keys())  # noqa: SIM118  (no dict)
    except (OSError, SafetensorError):
        return False  # weights that are away leave the other figures


def _maps(model: ModelFolder, chosen: Sequence[Example]) -> Iterator[Activation]:
    import torch

    from nnscan.models.class_activation import class_activation
    from nnscan.models.folder import load_model

    loaded = load_model(model.path)
    places = torch.tensor([model.classes.index(example.prediction) for example in chosen])
    inputs = loaded.inputs(_images(chosen))
    for start in range(0, len(chosen), IMAGES_AT_A_TIME):
        part = slice(start, start + IMAGES_AT_A_TIME)
        found = class_activation(loaded.network, inputs[part], places[part])
        for example, one in zip(chosen[part], found, strict=True):
            yield Activation(example=example, map=one.numpy().astype(np.float64))


def _images(chosen: Iterable[Example]) -> Tensor:
    """The pictures as stored, (N, C, H, W) uint8."""
    import torch

    arrays = [image[None] if image.ndim == 2 else image.transpose(2, 0, 1) for image in (one.image for one in chosen)]
    return torch.from_numpy(np.ascontiguousarray(np.stack(arrays)))
