"""Training images beside what a network gets of them: augmented and normalised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nnscan.data import augmentation, images, normalization
from nnscan.data.dataset import Dataset
from nnscan.data.folds import split_test
from nnscan.data.pictures import displayed, picture
from nnscan.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Sample:
    """An image of the training set."""

    index: int
    """In the training set."""

    class_name: str
    original: Image
    """Of an image folder the file as it is, else the pixels as they are stored."""

    seen: Image
    """Augmented as in an epoch of training, normalised, and scaled from its least to its largest value."""


@dataclass(frozen=True)
class Source:
    """What a data set was loaded with."""

    settings: Mapping[str, Any]
    """The table `data`."""

    root: Path
    seed: int
    """`training.seed`."""


def draw(dataset: Dataset, source: Source, count: int, seed: int) -> list[Sample]:
    """Return images of the training set, drawn at random.

    Parameters
    ----------
    dataset : Dataset
        What `dataset.load` returned of `source`. Normalisation is that of the whole training set.
    count : int
        So many, or all there are.
    seed : int
        Of the choice and the augmentation.

    Raises
    ------
    DataError
        Where the data are not images (N, C, H, W).
    """
    if dataset.images.dim() != 4:
        raise DataError(
            f"Only images can be shown, (N, C, H, W); an example of {source.settings['name']} has the shape"
            f" {tuple(dataset.images.shape[1:])}."
        )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(dataset.images), generator=generator)[:count]
    stored = dataset.images[rows]
    seen = _seen(dataset, source.settings, stored, generator)
    original = _originals(dataset, source)
    return [
        Sample(index, dataset.classes[int(dataset.labels[index])], original(index), picture(pixels))
        for index, pixels in zip(rows.tolist(), seen, strict=True)
    ]


def _seen(dataset: Dataset, settings: Mapping[str, Any], stored: Tensor, generator: torch.Generator) -> Tensor:
    """Return images as a network gets them in training, as pictures."""
    made = normalization.of(settings["normalization"], dataset.images, torch.arange(len(dataset.images)))
    if augmentation.is_on(settings["augmentation"]):
        shape = tuple(stored.shape[1:])
        draws = augmentation.draw(len(stored), settings["augmentation"], generator, shape)
        stored = augmentation.apply(stored, draws)
    scale, shift = made.tensors(4)
    return displayed(stored.float() * scale + shift)


def _originals(dataset: Dataset, source: Source) -> Callable[[int], Image]:
    """Return what gives the original of an example of the training set."""
    settings = source.settings
    if settings["name"] != "image_folder":
        return lambda index: picture(_bytes(dataset.images[index]))
    found = images.listing(source.root, settings["test"])
    paths = [found.root / path for path in found.train.paths]
    if settings["test"]:
        kept, _ = split_test(torch.tensor(found.train.labels), settings["test"], seed=source.seed)
        paths = [paths[place] for place in kept.tolist()]
    return lambda index: _opened(paths[index], images.MODES[settings["color"]])


def _bytes(pixels: Tensor) -> Tensor:
    return pixels if pixels.dtype == torch.uint8 else displayed(pixels[None])[0]


def _opened(path: Path, mode: str) -> Image:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.convert(mode)
    except Exception as error:  # Pillow raises nearly anything for a file that changed since it was decoded
        raise DataError(f"{path} cannot be read as an image: {error}. Repair it, or move it away.") from error


# ---------------------------------------------------------------------------------------------- the sheet

CELL = 144
"""Pixels of a side of the place of a picture."""

GAP = 10
LINE = 16
"""Pixels of a line of text."""

PAIRS_A_ROW = 4


def sheet(title: str, samples: list[Sample]) -> Image:
    """Return one picture of all: each image beside what a network gets, with class and sizes in pixels."""
    from PIL import Image, ImageDraw

    across = min(PAIRS_A_ROW, len(samples))
    down = -(-len(samples) // across)
    pair = 2 * CELL + 3 * GAP, CELL + 2 * LINE + 2 * GAP
    page = Image.new("RGB", (max(across, 2) * pair[0], down * pair[1] + 2 * LINE), "white")
    ImageDraw.Draw(page).text((GAP, LINE // 2), title, fill="black")
    for number, sample in enumerate(samples):
        row, column = divmod(number, across)
        _put(page, sample, (column * pair[0] + GAP, 2 * LINE + row * pair[1]))
    return page


def _put(page: Image, sample: Sample, corner: tuple[int, int]) -> None:
    from PIL import ImageDraw

    left, top = corner
    pen = ImageDraw.Draw(page)
    pen.text((left, top), _cut(f"{sample.class_name}  (#{sample.index})", pen, 2 * CELL), fill="black")
    for place, image in enumerate((sample.original, sample.seen)):
        x = left + place * (CELL + GAP)
        fitted = _fitted(image)
        page.paste(fitted, (x, top + LINE))
        pen.rectangle((x, top + LINE, x + fitted.width - 1, top + LINE + fitted.height - 1), outline="silver")
        pen.text((x, top + LINE + CELL), f"{image.width} x {image.height}", fill="dimgray")


def _fitted(image: Image) -> Image:
    """Return `image` at the size of a cell; the pixels of a small one stay squares."""
    from PIL.Image import Resampling

    longest = max(image.size)
    size = tuple(max(1, round(side * CELL / longest)) for side in image.size)
    way = Resampling.NEAREST if longest < CELL else Resampling.LANCZOS
    return image.convert("RGB").resize((size[0], size[1]), way)


def _cut(text: str, pen: Any, width: int) -> str:
    """Return as much of `text` as fits."""
    while pen.textlength(text) > width:
        text = f"{text.removesuffix('...')[:-1]}..."
    return text
