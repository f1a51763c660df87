"""Augmentation of a batch against a plain loop over images and pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nnscan.data import augmentation
from nnscan.data.augmentation import Draws, apply, draw, is_on

OFF = {"crop_padding": 0, "horizontal_flip": False, "cutout": 0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixel(image: Tensor, draws: Draws, index: int, row: int, column: int) -> Tensor:
    """Return one pixel (C,) of an augmented image, from the definition."""
    height, width = image.shape[1:]
    half = draws.cutout // 2
    if (
        0 <= row - int(draws.cut_row[index]) + half < draws.cutout
        and 0 <= column - int(draws.cut_column[index]) + half < draws.cutout
    ):
        return torch.zeros(len(image), dtype=image.dtype)
    if draws.flip[index]:
        column = width - 1 - column
    source_row = row + int(draws.top[index]) - draws.crop_padding
    source_column = column + int(draws.left[index]) - draws.crop_padding
    if 0 <= source_row < height and 0 <= source_column < width:
        return image[:, source_row, source_column]
    return torch.zeros(len(image), dtype=image.dtype)


def looped(images: Tensor, draws: Draws) -> Tensor:
    out = torch.empty_like(images)
    for index, image in enumerate(images):
        for row in range(images.shape[2]):
            for column in range(images.shape[3]):
                out[index, :, row, column] = pixel(image, draws, index, row, column)
    return out


@settings(max_examples=30)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    crop_padding=st.integers(0, 3),
    horizontal_flip=st.booleans(),
    cutout=st.integers(0, 7),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    seed=st.integers(0, 999),
)
def test_a_batch_becomes_what_a_loop_makes_of_it(
    shape: tuple[int, ...], crop_padding: int, horizontal_flip: bool, cutout: int, dtype: torch.dtype, seed: int
) -> None:
    options = {"crop_padding": crop_padding, "horizontal_flip": horizontal_flip, "cutout": cutout}
    images = torch.randint(1, 256, shape, generator=seeded(seed)).to(dtype)
    before = images.clone()
    draws = draw(len(images), options, seeded(seed), shape[1:])
    assert torch.equal(apply(images, draws), looped(images, draws))
    assert torch.equal(images, before)


def test_draws_cover_their_ranges_evenly() -> None:
    options = {"crop_padding": 2, "horizontal_flip": True, "cutout": 3}
    draws = draw(50_000, options, seeded(), (3, 4, 6))
    for values, choices in (
        (draws.top, 5),
        (draws.left, 5),
        (draws.flip.long(), 2),
        (draws.cut_row, 4),
        (draws.cut_column, 6),
    ):
        counts = torch.bincount(values)
        assert len(counts) == choices
        assert (counts - 50_000 / choices).abs().max() < 5 * (50_000 / choices) ** 0.5


@pytest.mark.parametrize("part", [slice(3, 7), torch.tensor([6, 0, 3])], ids=["slice", "indices"])
def test_a_part_of_the_draws_gives_that_part_of_the_batch(part: Any) -> None:
    options = {"crop_padding": 2, "horizontal_flip": True, "cutout": 3}
    images = torch.randint(0, 256, (8, 3, 5, 5), dtype=torch.uint8, generator=seeded())
    draws = draw(8, options, seeded(1), (3, 5, 5))
    assert torch.equal(apply(images[part], draws.of(part)), apply(images, draws)[part])
    assert len(draws.of(part)) == len(images[part])


def test_switching_one_augmentation_leaves_the_draws_of_the_others() -> None:
    both = draw(20, {"crop_padding": 4, "horizontal_flip": True, "cutout": 0}, seeded(), (1, 8, 8))
    crops = draw(20, {"crop_padding": 4, "horizontal_flip": False, "cutout": 2}, seeded(), (1, 8, 8))
    assert torch.equal(both.top, crops.top)
    assert torch.equal(both.left, crops.left)
    assert not crops.flip.any()


def test_draws_that_do_nothing_leave_the_images() -> None:
    images = torch.randint(0, 256, (6, 2, 4, 5), dtype=torch.uint8, generator=seeded())
    assert torch.equal(apply(images, draw(6, OFF, seeded(), (2, 4, 5))), images)


def test_draws_move_to_a_device() -> None:
    draws = draw(4, {"crop_padding": 1, "horizontal_flip": True, "cutout": 2}, seeded(), (1, 3, 3)).to("meta")
    assert {tensor.device.type for tensor in (draws.top, draws.left, draws.flip, draws.cut_row, draws.cut_column)} == {
        "meta"
    }
    assert (draws.crop_padding, draws.cutout) == (1, 2)


@pytest.mark.parametrize("change", [{"crop_padding": 1}, {"horizontal_flip": True}, {"cutout": 2}], ids=str)
def test_is_on_where_anything_changes(change: dict[str, Any]) -> None:
    assert is_on({**OFF, **change})
    assert not is_on(OFF)


def test_the_largest_draw_stays_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.rand gives at most 1 - 2^-24, and its product with a whole number must not round up to that number."""
    largest = 1 - 2**-24
    monkeypatch.setattr(augmentation.torch, "rand", lambda *shape, generator: torch.full(shape, largest))
    for padding in range(200):
        draws = draw(
            1, {"crop_padding": padding, "horizontal_flip": True, "cutout": 1}, seeded(), (1, padding + 1, 777)
        )
        assert int(draws.top) == 2 * padding
        assert int(draws.cut_row) == padding
        assert int(draws.cut_column) == 776
