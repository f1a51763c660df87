"""Samples of the training data, and the sheet that shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nnscan.data.dataset import Dataset, load
from nnscan.data.samples import CELL, GAP, LINE, Source, draw, sheet
from nnscan.errors import DataError

OFF = {"crop_padding": 0, "horizontal_flip": False, "cutout": 0}
COLORS = {"red": (200, 0, 0), "blue": (0, 0, 200)}


def settings(**changes: Any) -> dict[str, Any]:
    return {"name": "own.module:data", "normalization": "standard", "augmentation": OFF, "test": 0.0, **changes}


def dataset(images: torch.Tensor) -> Dataset:
    labels = torch.arange(len(images)) % 2
    return Dataset(images, labels, images[:1], labels[:1], ("even", "odd"), "f")


def grey(count: int = 20, channels: int = 1) -> Dataset:
    generator = torch.Generator().manual_seed(2)
    return dataset(torch.randint(0, 256, (count, channels, 6, 4), dtype=torch.uint8, generator=generator))


def draw_of(data: Dataset, count: int = 5, seed: int = 0, **changes: Any) -> list[Any]:
    return draw(data, Source(settings(**changes), Path(), 0), count, seed)


def test_samples_are_of_the_training_set_with_their_classes() -> None:
    data = grey()
    found = draw_of(data)
    assert len({one.index for one in found}) == 5
    for one in found:
        assert one.class_name == ("even", "odd")[one.index % 2]
        pixels = data.images[one.index, 0].numpy()
        assert np.array_equal(np.asarray(one.original), pixels)
        low, high = int(pixels.min()), int(pixels.max())  # normalised and scaled to its own range
        assert np.abs(np.asarray(one.seen) - (pixels - low) / (high - low) * 255.0).max() < 0.501


def test_the_draw_is_the_seed_s_and_there_are_no_more_than_there_are() -> None:
    first, again, other = ([one.index for one in draw_of(grey(), seed=seed)] for seed in (0, 0, 1))
    assert first == again != other
    assert sorted(one.index for one in draw_of(grey(), count=99)) == list(range(20))


def test_augmentation_shows() -> None:
    flipped = draw_of(grey(), count=20, augmentation={**OFF, "horizontal_flip": True})
    plain = {one.index: np.asarray(one.seen) for one in draw_of(grey(), count=20)}
    mirrored = [np.array_equal(np.asarray(one.seen), plain[one.index][:, ::-1]) for one in flipped]
    same = [np.array_equal(np.asarray(one.seen), plain[one.index]) for one in flipped]
    assert all(one or other for one, other in zip(mirrored, same, strict=True))
    assert 3 < sum(mirrored) < 17


def test_features_cannot_be_shown_and_pairs_lie_beside_each_other() -> None:
    with pytest.raises(DataError, match=r"own.module:data has the shape \(7,\)"):
        draw_of(dataset(torch.zeros(4, 7)))
    assert draw_of(grey(channels=2))[0].original.size == (8, 6)
    assert draw_of(dataset(torch.rand(4, 3, 6, 4)))[0].original.mode == "RGB"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of pictures each of a size of its own, which tells its class and number."""
    for place, (name, color) in enumerate(COLORS.items()):
        for number in range(8):
            path = tmp_path / "data" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20 + number, 30 + place), color).save(path)
    return tmp_path / "data"


@pytest.mark.parametrize("test", [0.25, 0.5])
def test_of_an_image_folder_the_original_is_the_file_of_the_example(folder: Path, tmp_path: Path, test: float) -> None:
    chosen = settings(name="image_folder", size=8, color="rgb", test=test)
    data = load(chosen, root=folder, cache=tmp_path / "cache", seed=5)
    found = draw(data, Source(chosen, folder, 5), 99, 0)
    assert len(found) == len(data.images) == 16 - 16 * test
    assert len({(one.original.size, one.class_name) for one in found}) == len(found)
    for one in found:
        assert one.original.getpixel((0, 0)) == COLORS[one.class_name]
        assert one.original.height == 30 + list(COLORS).index(one.class_name)
        assert one.seen.size == (8, 8)
        stored = data.images[one.index].permute(1, 2, 0).numpy()
        assert np.array_equal(np.asarray(one.original.resize((8, 8), Image.Resampling.BILINEAR)), stored)


def test_a_file_that_is_gone_since_is_named(folder: Path, tmp_path: Path) -> None:
    chosen = settings(name="image_folder", size=8, color="rgb", test=0.25)
    data = load(chosen, root=folder, cache=tmp_path / "cache", seed=5)
    for path in folder.glob("*/*.png"):
        path.write_text("no picture")
    with pytest.raises(DataError, match=r"data/(red|blue)/\d.png cannot be read as an image"):
        draw(data, Source(chosen, folder, 5), 3, 0)


@pytest.mark.parametrize(("count", "across", "down"), [(1, 2, 1), (3, 3, 1), (4, 4, 1), (9, 4, 3)])
def test_a_sheet_has_a_place_for_each(count: int, across: int, down: int) -> None:
    found = draw_of(grey(), count=count)
    page = sheet("title", found)
    wide, high = 2 * CELL + 3 * GAP, CELL + 2 * LINE + 2 * GAP
    assert page.size == (across * wide, down * high + 2 * LINE)
    last = count - 1
    x, y = (last % 4) * wide + GAP, (last // 4) * high + 3 * LINE
    shown = np.asarray(page)[y + 1 : y + CELL - 1, x + 1 : x + 95]  # 6 x 4 pixels become 144 x 96
    assert shown[60, 40, 0] == np.asarray(found[last].original)[2, 1]  # (60 + 1) / 24, (40 + 1) / 24


def test_a_long_name_stays_in_its_place() -> None:
    data = grey(2)
    named = Dataset(data.images, data.labels, data.images, data.labels, ("W" * 500, "ü ☃ name"), "f")
    page = np.asarray(sheet("title", draw_of(named, count=1)))
    assert (page[:, 2 * CELL + 3 * GAP :] == 255).all()
