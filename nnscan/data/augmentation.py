"""Random crop, horizontal flip and cutout of a batch of images, drawn apart from being applied.

The draws of a whole global batch are made at once with a CPU generator; ranks and fused trials then take their slice.
They apply to images as stored, before normalisation: what a crop or a cutout leaves open is 0, black, as torchvision's
RandomCrop has it. So a digit's border stays the digit's background whatever the normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Augmentation = Mapping[str, Any]
"""The table `data.augmentation`: `crop_padding` and `cutout` in pixels, `horizontal_flip`; zero or false is off."""


@dataclass(frozen=True, kw_only=True)
class Draws:
    """What happens to each image of a batch of N."""

    crop_padding: int
    """Width, in pixels, of the black border around the image out of which the crop is taken."""

    cutout: int
    """Side, in pixels, of the square that is blackened; 0: none."""

    top: Tensor
    """Row of the padded image where the crop begins, (N,) int64 in [0, 2 * crop_padding]."""

    left: Tensor
    """Column likewise."""

    flip: Tensor
    """Whether the crop is mirrored, (N,) bool."""

    cut_row: Tensor
    """Row of the middle of the blackened square, (N,) int64 in [0, H); parts of it may lie outside the image."""

    cut_column: Tensor
    """Column likewise, in [0, W)."""

    def __len__(self) -> int:
        return len(self.top)

    def of(self, part: slice | Tensor) -> Draws:
        """Return the draws of the images `part` of the batch (a rank's slice, or indices)."""
        return self._each(lambda values: values[part])

    def to(self, device: torch.device | str) -> Draws:
        """Return the draws on `device`."""
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Draws:
        changed: dict[str, Any] = {
            name: change(values) for name, values in vars(self).items() if isinstance(values, Tensor)
        }
        return replace(self, **changed)


def is_on(settings: Augmentation) -> bool:
    """Return whether `settings` change any image."""
    return bool(settings["crop_padding"] or settings["horizontal_flip"] or settings["cutout"])


def draw(count: int, settings: Augmentation, generator: torch.Generator, shape: tuple[int, ...]) -> Draws:
    """Return the draws of a batch of `count` images.

    Five numbers an image are drawn whatever is switched on, so configurations that differ in one augmentation share
    the draws of the others.

    Parameters
    ----------
    count : int
        Images of the whole global batch.
    settings : mapping
        The table `data.augmentation`, resolved.
    generator : torch.Generator
        Of the CPU, seeded for (seed, replicate, fold, augmentation, epoch).
    shape : tuple of int
        Shape of one image; the last two are height and width in pixels.
    """
    uniform = torch.rand(5, count, generator=generator)
    offsets = 2 * settings["crop_padding"] + 1
    return Draws(
        crop_padding=settings["crop_padding"],
        cutout=settings["cutout"],
        top=(uniform[0] * offsets).long(),
        left=(uniform[1] * offsets).long(),
        flip=(uniform[2] < 0.5) & settings["horizontal_flip"],
        cut_row=(uniform[3] * shape[-2]).long(),
        cut_column=(uniform[4] * shape[-1]).long(),
    )


def apply(images: Tensor, draws: Draws) -> Tensor:
    """Return the augmented copies of `images`, (N, C, H, W) of any type, on their device; draws must lie there too."""
    height, width = images.shape[-2:]
    rows, columns = _sources(draws, height, width)
    padded = functional.pad(images, [draws.crop_padding] * 4)
    # Crop and flip in one gather over flattened pixels: six to nine times faster than indexing with four tensors.
    pixels = (rows[:, :, None] * padded.shape[-1] + columns[:, None, :]).flatten(1)
    pixels = pixels[:, None, :].expand(-1, images.shape[1], -1)
    augmented = padded.flatten(2).gather(2, pixels).view(images.shape)
    if draws.cutout:
        augmented.masked_fill_(_cut(draws, height, width), 0)
    return augmented


def _sources(draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the rows (N, H) and columns (N, W) of the padded images that the augmented ones show."""
    row = torch.arange(height, device=draws.top.device)
    column = torch.arange(width, device=draws.top.device)
    column = torch.where(draws.flip[:, None], column.flip(0), column)
    return draws.top[:, None] + row, draws.left[:, None] + column


def _cut(draws: Draws, height: int, width: int) -> Tensor:
    """Return the mask (N, 1, H, W) of the blackened squares."""
    rows = _within(draws.cut_row, draws.cutout, height)
    columns = _within(draws.cut_column, draws.cutout, width)
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _within(middle: Tensor, side: int, length: int) -> Tensor:
    """Return (N, length): whether each place lies in the `side` places around `middle`."""
    first = (middle - side // 2)[:, None]
    place = torch.arange(length, device=middle.device)
    return (first <= place) & (place < first + side)
