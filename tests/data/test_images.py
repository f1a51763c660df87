"""Image folders: what is decoded, what is refused, and that all of it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nnscan.data import images
from nnscan.data.images import decode, listing
from nnscan.errors import DataError

CLASSES = ("cat", "dog")


def picture(path: Path, seed: int, mode: str = "RGB", size: tuple[int, int] = (13, 9)) -> None:
    """Write a picture of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": 3, "RGBA": 4, "LA": 2, "L": 1}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)
    Image.fromarray(pixels.squeeze(), mode=mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a training and a test set of pictures of many sizes, formats and modes."""
    files = ("a.png", "b.jpg", "c.bmp", "deeper/d.png")
    for part in ("train", "test"):
        for number, name in enumerate(CLASSES):
            for index, file in enumerate(files):
                picture(tmp_path / part / name / file, 10 * number + index, size=(7 + 5 * index, 20 - 3 * index))
    picture(tmp_path / "train" / "cat" / "grey.png", 50, "L")
    picture(tmp_path / "train" / "dog" / "clear.png", 51, "RGBA")
    return tmp_path


def written(root: Path, tmp_path: Path, *, size: int = 8, color: str = "rgb", test: float = 0.0) -> dict[str, object]:
    """Return the arrays and the manifest of a folder."""
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    calls: list[tuple[int, int]] = []
    manifest = images.write(listing(root, test), size, color, lambda *call: calls.append(call), out)
    return {**{path.stem: np.load(path) for path in out.glob("*.npy")}, **manifest, "calls": calls}


@pytest.mark.parametrize("color", ["rgb", "grey"])
@pytest.mark.parametrize("size", [4, 11, 32])
def test_images_are_those_of_torchvision(folder: Path, tmp_path: Path, color: str, size: int) -> None:
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.Grayscale()] if color == "grey" else []
    peer = ImageFolder(folder / "train", v2.Compose([*steps, v2.Resize((size, size)), v2.PILToTensor()]))
    found = written(folder, tmp_path, size=size, color=color)
    assert torch.equal(torch.from_numpy(found["images"]), torch.stack([image for image, _ in peer]))
    assert found["labels"].tolist() == peer.targets
    assert found["classes"] == peer.classes


def test_training_and_test_set_lie_apart(folder: Path, tmp_path: Path) -> None:
    found = written(folder, tmp_path)
    assert found["labels"].tolist() == [0] * 5 + [1] * 5
    assert found["test_labels"].tolist() == [0] * 4 + [1] * 4
    assert found["test_images"].shape == (8, 3, 8, 8)
    assert found["decoded"] == 18


def test_progress_is_told_an_image_at_a_time(folder: Path, tmp_path: Path) -> None:
    assert written(folder, tmp_path)["calls"] == [(done, 18) for done in range(1, 19)]


def test_more_files_than_threads_take_at_once_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "FILES_AT_A_TIME", 2)
    for index in range(60):
        color = (index, 0, 0)
        path = tmp_path / "data" / CLASSES[index // 30] / f"{index:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (5, 5), color).save(path)
    found = written(tmp_path / "data", tmp_path, size=2, test=0.5)
    assert found["images"][:, 0, 0, 0].tolist() == list(range(60))


def test_the_fingerprint_is_of_names_and_contents(folder: Path, tmp_path: Path) -> None:
    first = written(folder, tmp_path)["fingerprint"]
    (folder / "train" / "cat" / "a.png").touch()
    assert written(folder, tmp_path)["fingerprint"] == first
    (folder / "train" / "cat" / "a.png").rename(folder / "train" / "cat" / "a2.png")
    renamed = written(folder, tmp_path)["fingerprint"]
    picture(folder / "train" / "cat" / "a2.png", 99, size=(7, 20))
    assert len({first, renamed, written(folder, tmp_path)["fingerprint"]}) == 3


def test_hidden_files_and_those_of_file_browsers_are_no_images(folder: Path) -> None:
    before = listing(folder, 0.0)
    for name in (".DS_Store", "Thumbs.db", ".hidden/x.png"):
        (folder / "train" / "cat" / name).parent.mkdir(exist_ok=True)
        (folder / "train" / "cat" / name).write_bytes(b"")
    (folder / "train" / ".git").mkdir()
    assert listing(folder, 0.0) == before


@pytest.mark.parametrize("parent", ["", "train"], ids=["classes at the root", "train alone"])
def test_a_folder_without_a_test_set_is_read_whole(tmp_path: Path, parent: str) -> None:
    for name in CLASSES:
        picture(tmp_path / parent / name / "a.png", 0)
    found = listing(tmp_path, 0.2)
    assert found.classes == CLASSES
    assert (len(found.train.paths), len(found.test.paths)) == (2, 0)


def test_val_is_the_test_set_where_there_is_no_test(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    assert listing(folder, 0.0).test.paths[0] == "val/cat/a.png"


def without(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for file in sorted((folder / path).rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()

    return change


def renamed(path: str, name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).rename((folder / path).with_name(name))


def removed(path: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        without(path)(folder)
        (folder / path).rmdir()

    return change


@pytest.mark.parametrize(
    ("change", "test", "told"),
    [
        (without("train/dog"), 0.0, ["train/dog holds no images"]),
        (renamed("test/dog", "wolf"), 0.0, ["test has no class 'dog'", "train has no class 'wolf'"]),
        (removed("train/dog"), 0.0, ["1 class folders; at least 2", "train has no class 'dog'"]),
        (removed("test"), 0.0, ["no folders train and test", "--set data.test=0.2"]),
        (lambda folder: None, 0.2, ["data.test = 0.2, but", "is a test set already"]),
        (without("train"), 0.0, ["0 class folders", "<class>/<image>"]),
    ],
    ids=["empty class", "other classes", "one class", "no test set", "two test sets", "no images"],
)
def test_what_is_wrong_with_a_folder_is_told(
    folder: Path, change: Callable[[Path], object], test: float, told: list[str]
) -> None:
    change(folder)
    with pytest.raises(DataError) as error:
        listing(folder, test)
    for text in told:
        assert text in str(error.value)


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere does not exist. Set data.root, or type --data-root DIR"):
        listing(tmp_path / "nowhere", 0.0)


def test_all_unreadable_files_are_named_at_once(folder: Path, tmp_path: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("no picture")
    whole = (folder / "test" / "dog" / "b.jpg").read_bytes()
    (folder / "test" / "dog" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "test" / "dog" / "empty.png").write_bytes(b"")
    with pytest.raises(DataError) as error:
        written(folder, tmp_path)
    for text in (
        "3 files below",
        "train/cat/notes.txt: is not an image",
        "test/dog/b.jpg: ",
        "test/dog/empty.png: is not an image",
        "move them out",
    ):
        assert text in str(error.value)


def test_of_many_unreadable_files_twenty_are_named(folder: Path, tmp_path: Path) -> None:
    for index in range(25):
        (folder / "train" / "cat" / f"z{index:02}.png").write_bytes(b"broken")
    with pytest.raises(DataError) as error:
        written(folder, tmp_path)
    assert str(error.value).count("is not an image") == 20
    assert "25 files below" in str(error.value)
    assert "and 5 more" in str(error.value)


def test_images_of_16_bits_are_refused_rather_than_clipped(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)).save(folder / "train" / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: has more than 8 bits a channel"):
        written(folder, tmp_path)


def test_decode_takes_the_bytes_of_a_file(folder: Path) -> None:
    assert decode((folder / "train/cat/a.png").read_bytes(), 6, "grey").shape == (1, 6, 6)
