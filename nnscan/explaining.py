"""Where in image files a trained model sees the class that it predicts, and panels that show it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nnscan.errors import Problem, ScanError, StoreError
from nnscan.models.class_activation import class_activation
from nnscan.models.folder import load_model
from nnscan.prediction import Prediction, images_for, predictions

IMAGES_AT_A_TIME = 8
"""What a network computes between its layers is kept for the gradients: 200 MB an image of a ResNet50."""

SIDE = 512
"""Pixels of the longer side in which a picture is shown, at most."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where a model looks in one picture."""

    prediction: Prediction

    picture: NDArray[np.uint8]
    """(height, width, 3), as in the file but for its size."""

    map: NDArray[np.float32]
    """In [0, 1], on the whole picture, whatever the size of either."""


def explain(folder: Path, files: Sequence[Path], method: str = "") -> list[Explanation]:
    """Return where the model in `folder` sees the class that it predicts, in each of `files`.

    Parameters
    ----------
    folder : Path
        A model folder.
    files : sequence of Path
        Pictures, as `nnscan.prediction.predict` takes them.
    method : "cam", "grad-cam" or ""
        See `nnscan.models.class_activation.class_activation`.

    Raises
    ------
    DataError
        As `predict`; and where the network has no convolution, or not the maps that `method` asks for.
    """
    model = load_model(folder)
    images = images_for(model, folder, files)
    found = predictions(model, files, images)
    classes = torch.tensor([model.card.classes.index(one.class_name) for one in found])
    parts = zip(torch.split(images, IMAGES_AT_A_TIME), torch.split(classes, IMAGES_AT_A_TIME), strict=True)
    maps = torch.cat([class_activation(model.network, model.inputs(one), of, method=method) for one, of in parts])
    return [
        Explanation(prediction=one, picture=_picture(one.file), map=of.numpy())
        for one, of in zip(found, maps, strict=True)
    ]


def _picture(file: Path) -> NDArray[np.uint8]:
    with Image.open(file) as image:
        shown = image.convert("RGB")
    shown.thumbnail((SIDE, SIDE))
    return np.asarray(shown)


# ------------------------------------------------------------------------------------------------ panels


def write_panels(explanations: Sequence[Explanation], folder: Path) -> list[Path]:
    """Write a PNG an explanation into `folder`: picture, map, and one over the other; return the files.

    Raises
    ------
    ScanError
        As `panels`.
    StoreError
        Where they cannot be written.
    """
    paths = panels([one.prediction.file for one in explanations], folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one, path in zip(explanations, paths, strict=True):
            _draw(one, path)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{folder} cannot be written: {reason}. Name another folder with --output.") from error
    return paths


def panels(files: Sequence[Path], folder: Path) -> list[Path]:
    """Return the file of each picture's panel: called as the picture; of one name the later ones have a number.

    Raises
    ------
    ScanError
        Where a panel would take the place of a picture.
    """
    paths = [folder / name for name in names(files)]
    pictures = {file.resolve() for file in files}
    lost = next((path for path in paths if path.resolve() in pictures), None)
    if lost:
        problem = f"the panel would take the place of the picture {lost}; name another folder"
        raise ScanError("options", [Problem("--output", problem)])
    return paths


def names(files: Sequence[Path]) -> Iterator[str]:
    """Return what the panels of `files` are called.

    Examples
    --------
    >>> list(names([Path("a/cat.jpg"), Path("b/cat.png"), Path("dog.png")]))
    ['cat.png', 'cat-2.png', 'dog.png']
    """
    taken: set[str] = set()
    for file in files:
        number, name = 1, f"{file.stem}.png"
        while name in taken:
            number, name = number + 1, f"{file.stem}-{number + 1}.png"
        taken.add(name)
        yield name


def _draw(one: Explanation, path: Path) -> None:
    from matplotlib.figure import Figure  # 0.3 s

    height, width = one.picture.shape[:2]
    figure = Figure(figsize=(9, 0.6 + 3 * height / width), layout="constrained")
    axes = figure.subplots(1, 3)
    where = {"extent": (0, width, height, 0), "cmap": "inferno", "vmin": 0, "vmax": 1, "interpolation": "bilinear"}
    axes[0].imshow(one.picture)
    axes[1].imshow(one.map, **where)
    axes[2].imshow(one.picture)
    axes[2].imshow(one.map, alpha=0.4, **where)
    for axis in axes:
        axis.set_axis_off()
    figure.suptitle(f"{one.prediction.class_name} ({one.prediction.probability:.1%})", parse_math=False)
    figure.savefig(path, dpi=120)
