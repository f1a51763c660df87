"""Images as people look at them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image


def displayed(inputs: Tensor) -> Tensor:
    """Return inputs (n, C, H, W), float32, as pictures, uint8: each from its own least to its own largest value.

    One scale for all channels of a picture, so that what normalisation does to colours shows.
    """
    flat = inputs.flatten(1)
    least, largest = flat.amin(1), flat.amax(1)
    span = torch.where(largest > least, largest - least, torch.ones_like(least))
    shape = (-1, *[1] * (inputs.dim() - 1))
    scaled = (inputs - least.view(shape)) / span.view(shape) * 255
    return scaled.nan_to_num(0.0).round().clamp(0, 255).to(torch.uint8)


def picture(pixels: Tensor) -> Image:
    """Return pixels (C, H, W), uint8, for Pillow: grey, RGB, or with any other C the channels beside each other."""
    from PIL import Image  # 0.1 s, which only who looks at pictures pays

    if len(pixels) == 3:
        return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    return Image.fromarray(torch.cat(pixels.unbind(), dim=1).contiguous().numpy())


def png(pixels: Tensor) -> bytes:
    """Return pixels (C, H, W), uint8, as the content of a PNG file."""
    content = io.BytesIO()
    picture(pixels).save(content, "PNG")
    return content.getvalue()
