"""Pictures of the test set: those a network is most wrong about, some at random, some of each class."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Pixels = npt.NDArray[np.uint8]
"""(H, W) or (H, W, 3)"""

WORST, GALLERY, CLASS = "worst", "gallery", "class"
"""Roles of an example (column `roles`)."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture, and what the network says of it."""

    index: int
    """Place in the test set."""
    label: str
    prediction: str
    probability: float
    """Of the prediction."""
    true_probability: float
    """Of the label."""
    image: Pixels
    """As stored."""
    input: Pixels
    """As the network sees it: after normalisation and resizing, scaled to 0 to 255."""

    @property
    def right(self) -> bool:
        """Whether the prediction is the label."""
        return self.label == self.prediction


def examples(table: pa.Table, role: str) -> list[Example]:
    """Return the examples of a role in the order of their places in the test set; the worst first of the worst."""
    rows = [row for row in table.to_pylist() if role in row["roles"]]
    rows.sort(key=lambda row: (row["true_probability"] if role == WORST else 0.0, row["index"]))
    return [
        Example(
            index=row["index"],
            label=row["label"],
            prediction=row["prediction"],
            probability=row["probability"],
            true_probability=row["true_probability"],
            image=pixels(row["image"]),
            input=pixels(row["input"]),
        )
        for row in rows
    ]


def by_class(found: Sequence[Example], classes: Sequence[str]) -> dict[str, list[Example]]:
    """Return the examples of each class that has any, in the order of the classes."""
    groups = {name: [example for example in found if example.label == name] for name in classes}
    return {name: members for name, members in groups.items() if members}


def pixels(png: bytes) -> Pixels:
    """Return the pixels of a PNG, (H, W) of a grey one and (H, W, 3) of any other."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))
