"""Data sets with a name: scikit-learn's digits, and MNIST, Fashion-MNIST and CIFAR-10 as torchvision keeps them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnscan.data.cache import Manifest
from nnscan.errors import DataError

DIGITS_VALUES = 16
"""Largest value in scikit-learn's digits: counts of ink in 4x4 blocks."""

IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
CIFAR_FILES = ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


@dataclass(frozen=True)
class TorchvisionSet:
    """A data set that torchvision downloads and reads."""

    class_name: str
    """In `torchvision.datasets`."""

    folder: str
    """Of its files, below the data root."""

    files: tuple[str, ...]
    megabytes: int
    """To download."""


TORCHVISION = {
    "mnist": TorchvisionSet("MNIST", "MNIST/raw", IDX_FILES, 12),
    "fashion_mnist": TorchvisionSet("FashionMNIST", "FashionMNIST/raw", IDX_FILES, 31),
    "cifar10": TorchvisionSet("CIFAR10", "cifar-10-batches-py", CIFAR_FILES, 170),
}


def write_digits(folder: Path) -> Manifest:
    """Write the 1,797 handwritten digits of scikit-learn, 8x8, values 0..16 taken to 0..255; the test set is empty."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    # To the nearest, halves to even as Python's round: the one half, of v = 8, is 127.5 and becomes 128.
    images = np.rint(pixels * 255 / DIGITS_VALUES).astype(np.uint8).reshape(-1, 1, 8, 8)
    _save(folder, images, labels)
    _save(folder, images[:0], labels[:0], "test_")
    fingerprint = hashlib.blake2b(images.tobytes() + labels.astype("<i8").tobytes(), digest_size=16).hexdigest()
    return {"classes": [str(digit) for digit in range(10)], "fingerprint": fingerprint, "decoded": len(images)}


def files(name: str, root: Path) -> list[str]:
    """Return the files of a torchvision data set, relative to `root`.

    Raises
    ------
    DataError
        Where one is missing: what was looked for, where, and how to get it.
    """
    known = TORCHVISION[name]
    paths = [f"{known.folder}/{file}" for file in known.files]
    missing = [path for path in paths if not (root / path).is_file()]
    if missing:
        raise DataError(
            f"The data set {name} is not in {root}: no {', '.join(missing)}."
            f" Type --data-root DIR, the folder that holds {known.folder}, or --download"
            f" to fetch it ({known.megabytes} MB) into {root}."
        )
    return paths


def write_torchvision(name: str, root: Path, folder: Path) -> Manifest:
    """Write a torchvision data set that lies below `root`.

    Raises
    ------
    DataError
        Where its files are not the released ones.
    """
    content = hashlib.blake2b(digest_size=16)
    for path in files(name, root):
        content.update(path.encode() + b"\0" + hashlib.blake2b((root / path).read_bytes()).digest())
    decoded = 0
    for prefix, train in (("", True), ("test_", False)):
        images, labels, classes = _read(name, root, train)
        _save(folder, images, labels, prefix)
        decoded += len(images)
    return {"classes": classes, "fingerprint": content.hexdigest(), "decoded": decoded}


def download(name: str, root: Path) -> None:
    """Download a torchvision data set into `root`, where it is not there yet.

    Raises
    ------
    DataError
        Where that fails.
    """
    try:
        _open(name, root, train=True, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"The data set {name} could not be downloaded into {root}: {error}. Try again later, or on a machine with"
            " access to the network, and give its folder with --data-root DIR."
        ) from error


def _open(name: str, root: Path, *, train: bool, download: bool = False) -> Any:
    from torchvision import datasets  # 0.5 s, and needed once: everything later comes from the cache

    return getattr(datasets, TORCHVISION[name].class_name)(root, train=train, download=download)


def _read(name: str, root: Path, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64], list[str]]:
    """Return images (N, C, H, W), labels and names of the classes."""
    try:
        read = _open(name, root, train=train)
        images = np.asarray(read.data)
        images = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
        labels = np.asarray(read.targets, dtype=np.int64)
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images, but {len(labels)} labels")
    except Exception as error:  # torchvision asserts, or fails somewhere in a parser, on files that are not whole
        where = root / TORCHVISION[name].folder
        raise DataError(
            f"The files of {name} in {where} cannot be read: {error}. Remove that folder and type --download, or give"
            " another with --data-root DIR."
        ) from error
    return images, labels, [label.split(" - ")[0] for label in read.classes]  # MNIST calls its classes "3 - three"


def _save(folder: Path, images: NDArray[np.uint8], labels: NDArray[Any], prefix: str = "") -> None:
    np.save(folder / f"{prefix}images.npy", np.ascontiguousarray(images))
    np.save(folder / f"{prefix}labels.npy", labels.astype(np.int64))
