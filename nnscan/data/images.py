"""Folders of images: a folder a class, any format Pillow reads, any size, decoded once and in parallel.

root/train/<class>/* and root/test/<class>/* (or root/val/<class>/*)
root/<class>/*, or root/train/<class>/* alone, where `data.test` sets a test set apart
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnscan.data import cache
from nnscan.errors import DataError

Progress = Callable[[int, int], None]
"""Called with the images that are done and all there are."""

MODES = {"rgb": "RGB", "grey": "L"}
"""Pillow's name of each `data.color`."""

CHANNELS = {"rgb": 3, "grey": 1}

TEST_FOLDERS = ("test", "val")
"""Where the test set lies beside `train`: the first that exists."""

NOT_IMAGES = frozenset({"Thumbs.db", "desktop.ini"})
"""What file browsers leave behind; hidden files are skipped too. Every other file of a class has to be an image."""

FILES_AT_A_TIME = 16
"""Files a thread decodes in one go: some 10 ms of work."""

NAMED = 20
"""Files that an error names before it only counts."""


@dataclass(frozen=True)
class Part:
    """The files of the training or of the test set, class after class."""

    paths: tuple[str, ...]
    """Relative to the root, with `/`."""

    labels: tuple[int, ...]


@dataclass(frozen=True)
class Listing:
    """What an image folder holds."""

    root: Path
    classes: tuple[str, ...]
    """Names of the class folders, sorted; a label is a place in it."""

    train: Part
    test: Part
    """Empty where a test set has yet to be set apart."""


@dataclass(frozen=True)
class Decoded:
    """One file, decoded."""

    pixels: NDArray[np.uint8]
    """(C, size, size); black where the file cannot be read."""

    digest: bytes
    """BLAKE2b of the file's content, after its size."""

    problem: str = ""
    """Why it cannot be read."""


def listing(root: Path, test: float) -> Listing:
    """Return the images below `root`.

    Raises
    ------
    DataError
        With all that is wrong: no folder, no images, a class without images, classes that differ between the
        training and the test set, a test set that is both there and to be set apart (`test` > 0), or neither.
    """
    root = root.absolute()
    if not root.is_dir():
        raise DataError(f"The image folder {root} does not exist. Set data.root, or type --data-root DIR.")
    train_folder = root / "train" if (root / "train").is_dir() else root
    test_folder = next((root / name for name in TEST_FOLDERS if (root / name).is_dir()), None)
    if train_folder == root:
        test_folder = None  # `test` is then a class like any other
    _check_test(root, test_folder, test)
    train = _class_files(train_folder)
    tested = {} if test_folder is None else _class_files(test_folder)
    _check_classes(train_folder, train, test_folder, tested)
    classes = tuple(train)
    return Listing(root, classes, _part(root, train, classes), _part(root, tested, classes))


def write(found: Listing, size: int, color: str, progress: Progress, folder: Path) -> cache.Manifest:
    """Decode all images of `found` into `.npy` files in `folder`; return what is to be known about them.

    Each becomes what torchvision's `ImageFolder` with `v2.Resize((size, size))` gives: RGB (or grey), both sides scaled
    to `size` pixels, bilinear with antialiasing.

    Raises
    ------
    DataError
        Naming the files that cannot be read.
    """
    content = hashlib.blake2b(digest_size=16)
    unreadable: list[str] = []
    total = len(found.train.paths) + len(found.test.paths)
    done = 0
    for name, part in (("", found.train), ("test_", found.test)):
        np.save(folder / f"{name}labels.npy", np.array(part.labels, dtype=np.int64))
        shape = (len(part.paths), CHANNELS[color], size, size)
        with cache.array_writer(folder / f"{name}images.npy", shape) as append:
            for path, image in zip(part.paths, _decode(found.root, part.paths, size, color), strict=True):
                append(image.pixels)
                content.update(path.encode() + b"\0" + image.digest)
                if image.problem:
                    unreadable.append(f"{path}: {image.problem}")
                done += 1
                progress(done, total)
    if unreadable:
        raise DataError(_unreadable(found.root, unreadable))
    return {"classes": list(found.classes), "fingerprint": content.hexdigest(), "decoded": done}


def decode(content: bytes, size: int, color: str) -> NDArray[np.uint8]:
    """Return the image in `content`, a file's bytes, as (C, size, size); raises what Pillow does, or ValueError."""
    # Imported here, as in `_decode`: a worker that finds everything decoded never needs Pillow.
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        if image.mode[0] in "IF":
            raise ValueError(f"has more than 8 bits a channel (mode {image.mode}), which would be clipped")
        resized = image.convert(MODES[color]).resize((size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized)
    return pixels.reshape(size, size, -1).transpose(2, 0, 1)


def _decode(root: Path, paths: Sequence[str], size: int, color: str) -> Iterator[Decoded]:
    """Yield the images in order, decoded by a thread a core.

    Threads, for Pillow decodes and resizes without Python's lock: on two cores 0.9 s for 5,917 small pictures and 0.8 s
    for 200 of 900x800 pixels, a process pool 1.3 s and 1.7 s. A worker may also be a Ray actor, whose children
    outlive it.
    """
    from PIL import Image

    Image.init()  # else threads race to import the plugins
    groups = (paths[start : start + FILES_AT_A_TIME] for start in range(0, len(paths), FILES_AT_A_TIME))
    with ThreadPoolExecutor(_cores()) as pool:
        yield from _in_order(pool, lambda group: [_read(root / path, size, color) for path in group], groups)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Sequence[str]], list[Decoded]], groups: Iterable[Sequence[str]]
) -> Iterator[Decoded]:
    """Yield the results of `work` in order, with so few begun ahead that they fit in memory."""
    begun: deque[Future[list[Decoded]]] = deque()
    for group in groups:
        begun.append(pool.submit(work, group))
        if len(begun) > 2 * _cores():
            yield from begun.popleft().result()
    while begun:
        yield from begun.popleft().result()


def _read(path: Path, size: int, color: str) -> Decoded:
    content = b""
    try:
        content = path.read_bytes()
        return Decoded(decode(content, size, color), _digest(content))
    except Exception as error:  # a broken file makes Pillow raise nearly anything; all are told together
        problem = "is not an image" if type(error).__name__ == "UnidentifiedImageError" else str(error)
        return Decoded(np.zeros((CHANNELS[color], size, size), np.uint8), _digest(content), problem or repr(error))


def _digest(content: bytes) -> bytes:
    return len(content).to_bytes(8, "little") + hashlib.blake2b(content, digest_size=16).digest()


def _cores() -> int:
    """Return the cores this process may use; macOS only knows those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _class_files(folder: Path) -> dict[str, list[str]]:
    """Return the files of each class folder in `folder`, both sorted."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return {name: _files(folder / name) for name in names}


def _files(folder: Path) -> list[str]:
    """Return the files below `folder`, links followed, in the order of torchvision's ImageFolder.

    As text: paths as objects make up most of the time that opening decoded data takes.
    """
    found = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [(parent, name) for name in names if not name.startswith(".") and name not in NOT_IMAGES]
    return [f"{parent}/{name}" for parent, name in sorted(found)]


def _part(root: Path, files: dict[str, list[str]], classes: Sequence[str]) -> Part:
    labelled = [(path, label) for label, name in enumerate(classes) for path in files.get(name, [])]
    below = len(f"{root}/")
    return Part(tuple(path[below:] for path, _ in labelled), tuple(label for _, label in labelled))


def _check_test(root: Path, test_folder: Path | None, test: float) -> None:
    if test_folder is None and not test:
        raise DataError(
            f"{root} has no folders train and test (or val). Put <class>/<image> below these two, or have a test set"
            " set apart: --set data.test=0.2"
        )
    if test_folder is not None and test:
        raise DataError(
            f"data.test = {test}, but {test_folder} is a test set already. Leave data.test out, or move that folder."
        )


def _check_classes(
    train_folder: Path, train: dict[str, list[str]], test_folder: Path | None, test: dict[str, list[str]]
) -> None:
    problems = [f"{train_folder} has {len(train)} class folders; at least 2 are needed"] if len(train) < 2 else []
    for folder, files in ((train_folder, train), (test_folder, test)):
        problems += [f"{folder}/{name} holds no images" for name in files if not files[name]]
    if test_folder is not None:
        problems += [f"{test_folder} has no class {name!r}, {train_folder} has" for name in train if name not in test]
        problems += [f"{train_folder} has no class {name!r}, {test_folder} has" for name in test if name not in train]
    if problems:
        raise DataError("\n  ".join([*problems, "A class is a folder of images: <class>/<image>."]))


def _unreadable(root: Path, problems: Sequence[str]) -> str:
    count = "1 file" if len(problems) == 1 else f"{len(problems)} files"
    more = [f"and {len(problems) - NAMED} more"] if len(problems) > NAMED else []
    return "\n  ".join(
        [
            f"{count} below {root} cannot be read as images:",
            *problems[:NAMED],
            *more,
            "Repair them, or move them out of their class folders; then start again.",
        ]
    )
