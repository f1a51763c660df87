import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from nnscan.data.normalization import Normalization
from nnscan.errors import DataError
from nnscan.models.folder import ModelCard, save_model
from nnscan.prediction import predict

torch.set_num_threads(1)

TASK = {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0}


def brightest(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return Brightest()


def linear(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


class Brightest(nn.Module):
    """Tells the brightest channel, or of grey images whether the left half is brighter than the right."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[1] == 1:
            half = images.shape[-1] // 2
            return torch.stack([images[..., :half].mean((1, 2, 3)), images[..., half:].mean((1, 2, 3))], dim=1)
        return images.mean((2, 3))


def save(
    folder: Path,
    shape: tuple[int, ...],
    classes: tuple[str, ...],
    input_type: str = "uint8",
    network: nn.Module | None = None,
) -> Path:
    """Write a model folder: Brightest, or `network`, which is then what `linear` gives."""
    name = "brightest" if network is None else "linear"
    card = ModelCard(
        settings={"model": {"name": f"{__name__}:{name}", "arguments": {}}, "task": TASK},
        configuration="c" * 32,
        input_shape=shape,
        input_type=input_type,
        classes=classes,
        normalization=Normalization((4 / 255,) * shape[0], (0.0,) * shape[0]),
    )
    save_model(folder, network or Brightest(), card)
    return folder


def picture(path: Path, mode: str, size: tuple[int, int], color: Any) -> Path:
    Image.new(mode, size, color).save(path)
    return path


def test_pictures_of_any_size_and_mode_are_read_as_the_model_wants_them(tmp_path: Path) -> None:
    model = save(tmp_path / "model", (3, 16, 16), ("red", "green", "blue"))
    files = [
        picture(tmp_path / "r.png", "RGB", (16, 16), (250, 10, 10)),
        picture(tmp_path / "g.jpg", "RGB", (90, 40), (10, 250, 10)),
        picture(tmp_path / "b.png", "RGBA", (5, 5), (10, 10, 250, 255)),
    ]
    found = predict(model, files)
    assert [one.file for one in found] == files
    assert [one.class_name for one in found] == ["red", "green", "blue"]
    assert list(found[0].probabilities) == ["red", "green", "blue"]
    assert sum(found[0].probabilities.values()) == pytest.approx(1)
    expected = torch.tensor([250.0, 10, 10]).mul(4 / 255).softmax(0)
    assert list(found[0].probabilities.values()) == pytest.approx(expected.tolist(), rel=1e-5)
    assert found[0].probability == found[0].probabilities["red"]


@pytest.mark.parametrize("size", [8, 28])
def test_grey_pictures_are_taken_pixel_by_pixel(size: int, tmp_path: Path) -> None:
    model = save(tmp_path / "model", (1, size, size), ("left", "right"))
    image = Image.new("L", (size, size), 0)
    image.paste(200, (0, 0, size // 2, size))
    image.save(tmp_path / "left.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "right.png")
    found = predict(model, [tmp_path / "left.png", tmp_path / "right.png"])
    assert [one.class_name for one in found] == ["left", "right"]
    expected = torch.tensor([200.0, 0]).mul(4 / 255).softmax(0)
    assert list(found[0].probabilities.values()) == pytest.approx(expected.tolist(), rel=1e-5)


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: Path) -> None:
    model = save(tmp_path / "model", (3, 16, 16), ("red", "green", "blue"))
    good = picture(tmp_path / "good.png", "RGB", (16, 16), 0)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "torn.png").write_bytes(good.read_bytes()[:40])
    with pytest.raises(DataError) as caught:
        predict(model, [tmp_path / "missing.png", good, tmp_path / "text.png", tmp_path / "torn.png"])
    told = str(caught.value)
    assert f"{tmp_path / 'missing.png'}: No such file or directory" in told
    assert f"{tmp_path / 'text.png'}: is not an image" in told
    assert "torn.png" in told
    assert "good.png" not in told


@pytest.mark.parametrize(
    ("shape", "input_type"),
    [((3, 16, 20), "uint8"), ((2, 16, 16), "uint8"), ((3, 16, 16), "float32"), ((5,), "float32")],
)
def test_models_of_other_data_than_square_images_take_no_files(
    shape: tuple[int, ...], input_type: str, tmp_path: Path
) -> None:
    model = save(tmp_path / "model", shape, ("a", "b", "c"), input_type, linear(shape, 3))
    with pytest.raises(DataError, match="not square images"):
        predict(model, [picture(tmp_path / "x.png", "RGB", (16, 16), 0)])


def test_no_files_and_no_model_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No image file"):
        predict(save(tmp_path / "model", (3, 16, 16), ("a", "b", "c")), [])
    with pytest.raises(DataError, match="is not a model folder"):
        predict(tmp_path / "nowhere", [tmp_path / "x.png"])
