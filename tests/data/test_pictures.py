"""Images as people look at them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nnscan.data.pictures import displayed, png


def pixels(content: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels(channels: int) -> None:
    picture = torch.randint(0, 256, (channels, 5, 7), dtype=torch.uint8)
    found = pixels(png(picture))
    assert found.shape == ((5, 7) if channels == 1 else (5, 7, 3))
    assert np.array_equal(found.reshape(5, 7, channels), picture.permute(1, 2, 0).numpy())


def test_a_picture_spans_0_to_255_with_one_scale_for_its_channels() -> None:
    inputs = torch.tensor([[[[-2.0, 0.0]], [[1.0, 2.0]]], [[[5.0, 5.0]], [[5.0, 5.0]]]])  # (2, 2, 1, 2)
    assert displayed(inputs).tolist() == [[[[0, 128]], [[191, 255]]], [[[0, 0]], [[0, 0]]]]
    assert displayed(torch.full((1, 1, 1, 2), float("nan"))).tolist() == [[[[0, 0]]]]


def test_channels_that_are_no_colours_lie_beside_each_other() -> None:
    pair = torch.randint(0, 256, (2, 3, 4), dtype=torch.uint8)
    assert np.array_equal(pixels(png(pair)), torch.cat([pair[0], pair[1]], dim=1).numpy())
