"""Data sets with a name."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from nnscan.data import sources
from nnscan.data.sources import IDX_FILES, download, files, write_digits, write_torchvision
from nnscan.errors import DataError


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write an array of bytes in the format of the MNIST files (LeCun's idx: magic number, sizes, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes())


@pytest.fixture
def small_mnist(tmp_path: Path) -> Path:
    """A folder with files like those of MNIST, of 6 and 4 pictures."""
    random = np.random.default_rng(0)
    for name, count in zip(IDX_FILES, (6, 6, 4, 4), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        write_idx(tmp_path / "root" / "MNIST" / "raw" / name, random.integers(0, 10, shape).astype(np.uint8))
    return tmp_path / "root"


def test_digits_are_those_of_scikit_learn_scaled_to_bytes(tmp_path: Path) -> None:
    manifest = write_digits(tmp_path)
    images, labels = np.load(tmp_path / "images.npy"), np.load(tmp_path / "labels.npy")
    bunch = load_digits()
    expected = [[round(value * 255 / 16) for value in row] for row in bunch.data]
    assert images.shape == (1797, 1, 8, 8)
    assert images.dtype == np.uint8
    assert images.reshape(1797, 64).tolist() == expected
    assert labels.tolist() == bunch.target.tolist()
    assert manifest["classes"] == list("0123456789")
    assert manifest["decoded"] == 1797


def test_the_fingerprint_of_digits_is_the_same_everywhere(tmp_path: Path) -> None:
    """Stands in every row of a scan of digits: another would orphan them."""
    assert write_digits(tmp_path)["fingerprint"] == "a79e829c01a4795ad6bf65dcd9af3f7f"


def test_mnist_files_become_arrays(small_mnist: Path, tmp_path: Path) -> None:
    manifest = write_torchvision("mnist", small_mnist, tmp_path)
    raw = (small_mnist / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()[16:]
    assert np.load(tmp_path / "images.npy").shape == (6, 1, 28, 28)
    assert np.load(tmp_path / "images.npy").tobytes() == raw
    raw = (small_mnist / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").read_bytes()[8:]
    assert np.load(tmp_path / "test_labels.npy").tolist() == list(raw)
    assert manifest["classes"] == list("0123456789")
    assert manifest["decoded"] == 10


def test_another_content_has_another_fingerprint(small_mnist: Path, tmp_path: Path) -> None:
    first = write_torchvision("mnist", small_mnist, tmp_path)["fingerprint"]
    assert write_torchvision("mnist", small_mnist, tmp_path)["fingerprint"] == first
    write_idx(small_mnist / "MNIST" / "raw" / IDX_FILES[3], np.zeros(4, dtype=np.uint8))
    assert write_torchvision("mnist", small_mnist, tmp_path)["fingerprint"] != first


@pytest.mark.parametrize(
    ("name", "folder"),
    [("mnist", "MNIST/raw"), ("fashion_mnist", "FashionMNIST/raw"), ("cifar10", "cifar-10-batches-py")],
)
def test_missing_data_are_told_with_what_to_type(tmp_path: Path, name: str, folder: str) -> None:
    with pytest.raises(DataError) as error:
        files(name, tmp_path)
    for text in (f"{name} is not in {tmp_path}: no {folder}/", "--data-root DIR", f"holds {folder}", "--download"):
        assert text in str(error.value)


@pytest.mark.parametrize("content", [b"", b"nonsense that is no idx file"], ids=["empty", "other"])
def test_files_that_are_not_the_released_ones_are_told(small_mnist: Path, tmp_path: Path, content: bytes) -> None:
    (small_mnist / "MNIST" / "raw" / IDX_FILES[0]).write_bytes(content)
    with pytest.raises(DataError, match=r"The files of mnist in .*MNIST/raw cannot be read"):
        write_torchvision("mnist", small_mnist, tmp_path)


def test_as_many_labels_as_images_are_needed(small_mnist: Path, tmp_path: Path) -> None:
    write_idx(small_mnist / "MNIST" / "raw" / IDX_FILES[1], np.zeros(5, dtype=np.uint8))
    with pytest.raises(DataError, match="6 images, but 5 labels"):
        write_torchvision("mnist", small_mnist, tmp_path)


def test_download_of_what_is_there_does_nothing(small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", None)  # a request would fail
    download("mnist", small_mnist)


def test_a_download_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    monkeypatch.setattr(sources, "_open", refused)
    with pytest.raises(DataError, match=r"mnist could not be downloaded into .*: Error downloading train"):
        download("mnist", tmp_path)


def test_mnist_is_whole(data_root: Path, tmp_path: Path) -> None:
    write_torchvision("mnist", data_root, tmp_path)
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(np.load(tmp_path / "labels.npy")).tolist() == train
    assert np.bincount(np.load(tmp_path / "test_labels.npy")).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


@pytest.mark.slow
def test_cifar10_is_whole(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(data_root), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    from unpack_cifar10 import unpack  # type: ignore[import-not-found]

    unpack(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    manifest = write_torchvision("cifar10", tmp_path, out)
    images = np.load(out / "images.npy")
    assert images.shape == (50_000, 3, 32, 32)
    np.testing.assert_allclose(images.mean((0, 2, 3)) / 255, [0.4914, 0.4822, 0.4465], atol=5e-5)
    assert np.bincount(np.load(out / "test_labels.npy")).tolist() == [1000] * 10
    assert manifest["classes"][:3] == ["airplane", "automobile", "bird"]
