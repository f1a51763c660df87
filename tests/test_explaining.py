"""Panels of where a model looks: what they are made of, and what is told where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nnscan.data.normalization import Normalization
from nnscan.errors import DataError, ScanError, StoreError
from nnscan.explaining import SIDE, Explanation, explain, names, write_panels
from nnscan.models.class_activation import class_activation
from nnscan.models.folder import ModelCard, save_model
from nnscan.prediction import Prediction, predict

torch.set_num_threads(1)

CLASSES = ("red", "green", "blue")


def brightest(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def flat(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))


def saved(folder: Path, network: str = "brightest") -> Path:
    """Write a model whose map of a class is the channel of that colour, less the mean of the others."""
    card = ModelCard(
        settings={
            "model": {"name": f"{__name__}:{network}", "arguments": {}},
            "task": {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0},
        },
        configuration="c" * 32,
        input_shape=(3, 16, 16),
        input_type="uint8",
        classes=CLASSES,
        normalization=Normalization((1 / 255,) * 3, (0.0,) * 3),
    )
    made: Any = {"brightest": brightest, "flat": flat}[network]((3, 16, 16), 3)
    if network == "brightest":
        with torch.no_grad():
            made[0].weight.copy_((1.5 * torch.eye(3) - 0.5)[:, :, None, None])
            made[0].bias.zero_()
    save_model(folder, made, card)
    return folder


@pytest.fixture
def spots(tmp_path: Path) -> list[Path]:
    """Black pictures with a green spot in a corner: one of the model's size, a large one, a grey-green one."""
    files = []
    for name, size in (("a.png", (16, 16)), ("b.jpg", (1200, 600)), ("c.png", (64, 128))):
        image = Image.new("RGB", size)
        image.paste((0, 255, 0), (size[0] // 2, 0, size[0], size[1] // 2))
        image.save(tmp_path / name)
        files.append(tmp_path / name)
    return files


def test_the_map_is_bright_where_the_class_is(tmp_path: Path, spots: list[Path]) -> None:
    model = saved(tmp_path / "model")
    found = explain(model, spots)
    assert [one.prediction for one in found] == predict(model, spots)
    for one in found:
        assert one.prediction.class_name == "green"
        assert one.map.shape == (16, 16)
        assert one.map[:7, 9:].min() > 0.9
        assert max(one.map[9:].max(), one.map[:, :7].max()) < 0.1
    assert [one.picture.shape for one in found] == [(16, 16, 3), (SIDE // 2, SIDE, 3), (128, 64, 3)]


def test_maps_are_those_of_the_network_on_what_it_is_fed(tmp_path: Path, spots: list[Path]) -> None:
    (one,) = explain(saved(tmp_path / "model"), spots[:1], "grad-cam")
    network: Any = brightest((3, 16, 16), 3)
    with torch.no_grad():
        network[0].weight.copy_((1.5 * torch.eye(3) - 0.5)[:, :, None, None])
        network[0].bias.zero_()
    pixels = torch.from_numpy(np.array(Image.open(spots[0]))).permute(2, 0, 1)
    expected = class_activation(network, pixels[None] / 255, method="grad-cam")
    torch.testing.assert_close(torch.from_numpy(one.map), expected[0])


def test_a_panel_has_the_picture_the_map_and_both(tmp_path: Path, spots: list[Path]) -> None:
    (path, *_) = write_panels(explain(saved(tmp_path / "model"), spots), tmp_path / "new" / "panels")
    assert path == tmp_path / "new" / "panels" / "a.png"
    panel = np.asarray(Image.open(path).convert("RGB")).astype(int)
    thirds = np.array_split(panel, 3, axis=1)
    green = [np.all(np.abs(third - (0, 255, 0)) < 9, axis=2).mean() for third in thirds]
    assert green[0] > 0.15  # a quarter of the picture is the spot
    assert green[1] == green[2] == 0


def test_pictures_of_one_name_get_a_panel_each(tmp_path: Path, spots: list[Path]) -> None:
    (tmp_path / "b.png").write_bytes(spots[0].read_bytes())
    files = [*spots[:2], tmp_path / "b.png", spots[1]]
    paths = write_panels(explain(saved(tmp_path / "model"), files), tmp_path / "panels")
    assert [path.name for path in paths] == ["a.png", "b.png", "b-2.png", "b-3.png"]
    assert all(path.is_file() for path in paths)
    assert list(names([Path("x-2.png"), Path("x.png"), Path("x.jpg")])) == ["x-2.png", "x.png", "x-3.png"]


def test_a_panel_takes_the_place_of_no_picture(tmp_path: Path, spots: list[Path]) -> None:
    before = spots[0].read_bytes()
    with pytest.raises(ScanError, match=r"--output: the panel would take the place of the picture .*a\.png"):
        write_panels(explain(saved(tmp_path / "model"), spots[:1]), tmp_path / "model" / "..")
    assert spots[0].read_bytes() == before


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, spots: list[Path]) -> None:
    with pytest.raises(StoreError, match=r"cannot be written: .*\. Name another folder with --output\."):
        write_panels(explain(saved(tmp_path / "model"), spots[:1]), spots[0])


def test_many_pictures_are_explained_in_parts(tmp_path: Path, spots: list[Path]) -> None:
    found = explain(saved(tmp_path / "model"), spots * 4)
    for one, again in zip(found[:3], found[9:], strict=True):
        np.testing.assert_array_equal(one.map, again.map)


def test_a_model_without_convolutions_is_refused(tmp_path: Path, spots: list[Path]) -> None:
    with pytest.raises(DataError, match="no convolution"):
        explain(saved(tmp_path / "model", "flat"), spots)


def test_files_that_are_no_pictures_are_all_named(tmp_path: Path, spots: list[Path]) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png: is not an image\n.*lost\.png: No such file"):
        explain(saved(tmp_path / "model"), [spots[0], tmp_path / "text.png", tmp_path / "lost.png"])


def test_a_title_with_signs_of_formulas_is_drawn_as_it_is(tmp_path: Path) -> None:
    prediction = Prediction(file=Path("a.png"), class_name="a$_{b$", probability=0.5, probabilities={})
    one = Explanation(prediction=prediction, picture=np.zeros((4, 9, 3), np.uint8), map=np.zeros((2, 2), np.float32))
    wide = replace(one, picture=np.zeros((4, 400, 3), np.uint8))
    assert len(write_panels([one, wide], tmp_path)) == 2
