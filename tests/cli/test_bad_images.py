"""Image folders that are not as they should be: told by name before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from commanding import Command
from PIL import Image

SCAN = """
name = "pictures"
[data]
name = "image_folder"
root = "pictures"
size = 8
[validation]
holdout = 0.5
[training]
epochs = 1
[model]
name = "mlp"
[optimizer]
name = "adam"
"""


@pytest.fixture
def pictures(empty: Path) -> Path:
    """A working folder with a scan file, and images in training and test folders."""
    (empty / "pictures.toml").write_text(SCAN)
    for part in ("train", "test"):
        for number, name in enumerate(("cat", "dog")):
            for count in range(4):
                path = empty / "pictures" / part / name / f"{count}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (9, 9), (100 * number, 10 * count, 50)).save(path)
    return empty


def torn(root: Path) -> None:
    path = root / "train/dog/2.png"
    path.write_bytes(path.read_bytes()[:40])


def no_image(root: Path) -> None:
    (root / "test/cat/1.png").write_text("no picture")


def another_class(root: Path) -> None:
    (root / "test/cow").mkdir()
    Image.new("RGB", (9, 9)).save(root / "test/cow/0.png")


def a_class_less(root: Path) -> None:
    for path in (root / "test/dog").iterdir():
        path.unlink()
    (root / "test/dog").rmdir()


def an_empty_class(root: Path) -> None:
    for path in (root / "train/dog").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (torn, ["train/dog/2.png", "Repair them, or move them out"]),
        (no_image, ["test/cat/1.png: is not an image", "Repair them, or move them out"]),
        (another_class, ["train has no class 'cow'", "A class is a folder of images"]),
        (a_class_less, ["test has no class 'dog'", "A class is a folder of images"]),
        (an_empty_class, ["train/dog holds no images"]),
    ],
    ids=["torn", "no image", "another class", "a class less", "an empty class"],
)
@pytest.mark.parametrize("command", [["launch", "--cluster", "inline"], ["samples"]], ids=["launch", "samples"])
def test_it_is_told_before_anything_is_trained(
    nnscan: Command, pictures: Path, command: list[str], spoil: object, said: list[str]
) -> None:
    assert callable(spoil)
    spoil(pictures / "pictures")
    result = nnscan(command[0], "pictures.toml", *command[1:])
    assert result.exit_code == 2
    for words in said:
        assert words in result.stderr
    assert not list(Path("scans").glob("pictures/trials/*"))
    assert not list(Path("scans").glob("pictures/journal/*"))


def test_what_is_sound_is_trained(nnscan: Command, pictures: Path) -> None:
    result = nnscan("launch", "pictures.toml", "--cluster", "inline")
    assert result.exit_code == 0, result.output
