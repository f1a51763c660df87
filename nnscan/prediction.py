"""What a trained model says of image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nnscan.data.images import CHANNELS, decode
from nnscan.errors import DataError
from nnscan.models.folder import LoadedModel, ModelCard, load_model


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a model says of one image."""

    file: Path

    class_name: str
    """The most probable class."""

    probability: float
    """Of that class."""

    probabilities: dict[str, float]
    """Of all classes, in the model's order; they sum to 1."""


def predict(folder: Path, files: Sequence[Path]) -> list[Prediction]:
    """Return what the model in `folder` says of each of `files`, in their order.

    Any picture that Pillow reads is taken: it is converted to the model's color and scaled to its size as the images
    were that it was trained on.

    Raises
    ------
    DataError
        Where the folder holds no model for square images, or files cannot be read: all of them are named.
    """
    model = load_model(folder)
    return predictions(model, files, images_for(model, folder, files))


def predictions(model: LoadedModel, files: Sequence[Path], images: Tensor) -> list[Prediction]:
    """Return what `model` says of `images` (N, C, H, W) as stored, which are those of `files`."""
    rows = model.predict(images).tolist()
    return [_prediction(model.card, file, row) for file, row in zip(files, rows, strict=True)]


def images_for(model: LoadedModel, folder: Path, files: Sequence[Path]) -> Tensor:
    """Return the images in `files` as the model in `folder` takes them, (N, C, H, W) uint8.

    Raises
    ------
    DataError
        Where it takes no square images, or files cannot be read: all of them are named.
    """
    size, color = _image_format(model.card, folder)
    return _read_images(files, size, color)


def _prediction(card: ModelCard, file: Path, row: list[float]) -> Prediction:
    best = max(range(len(row)), key=row.__getitem__)
    return Prediction(
        file=file,
        class_name=card.classes[best],
        probability=row[best],
        probabilities=dict(zip(card.classes, row, strict=True)),
    )


def _image_format(card: ModelCard, folder: Path) -> tuple[int, str]:
    """Return side, in pixels, and color of the images that the model takes."""
    colors = {channels: color for color, channels in CHANNELS.items()}
    shape = card.input_shape
    if card.input_type != "uint8" or len(shape) != 3 or shape[0] not in colors or shape[1] != shape[2]:
        raise DataError(
            f"The model in {folder} takes {card.input_type} of shape {shape}, not square images: files cannot be read"
            " for it. In Python, nnscan.models.folder.load_model(folder).predict(tensor) takes what it was trained on."
        )
    return shape[1], colors[shape[0]]


def _read_images(files: Sequence[Path], size: int, color: str) -> Tensor:
    """Return the images (N, C, size, size), uint8; raise an error that names every file that cannot be read."""
    images, problems = [], []
    for file in files:
        try:
            images.append(torch.tensor(decode(file.read_bytes(), size, color)))
        except Exception as error:  # Pillow raises nearly anything for a broken file
            problems.append(f"{file}: {_told(error)}")
    if not files:
        raise DataError("No image file was named: nnscan predict MODEL IMAGE...")
    if problems:
        raise DataError("\n  ".join(["These files cannot be read as images:", *problems]))
    return torch.stack(images)


def _told(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "is not an image" if type(error).__name__ == "UnidentifiedImageError" else str(error)
