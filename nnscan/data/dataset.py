"""A data set as trials meet it: tensors mapped from a cache that is decoded once, or a user's function's own.

<cache>/<name>-<hash>/             images.npy labels.npy test_images.npy test_labels.npy manifest.json
<cache>/<name>-<hash>-test-<hash>/ the same, with a test set set apart (`data.test`)
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nnscan.data import digit_pairs, images, sources, user_function
from nnscan.data.augmentation import is_on
from nnscan.data.cache import Build, Manifest, array_writer, entry, open_array
from nnscan.data.folds import split_test
from nnscan.data.images import Progress
from nnscan.data.packing import Shapes
from nnscan.data.sources import TORCHVISION
from nnscan.data.user_function import Returned
from nnscan.dotted import code_fingerprint, is_dotted
from nnscan.errors import DataError
from nnscan.identity import Purpose, canonical_json, seed32
from nnscan.tasks.classification import first_column

DataSettings = Mapping[str, Any]
"""The table `data` of a configuration, resolved."""

FORMAT = 1
"""Of the cache's files; raised when they are made otherwise, so that older ones are not taken."""

COPIED_EXAMPLES = 1024
"""Copied at a time when a test set is set apart: the images may be larger than memory."""


KEPT_BYTES = 2**30
"""Of users' functions' data kept in memory by a process, besides the latest."""

ARRAYS = ("images", "labels", "test_images", "test_labels")
"""Files of an entry of the cache, and fields of a Dataset."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and test set. The test set is for the final evaluation alone."""

    images: Tensor
    """(N, C, H, W) uint8, mapped from disk; or (N, ...) float32 of a user's function. Never written to."""

    labels: Tensor
    """(N,) int64, places in `classes`."""

    test_images: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]

    fingerprint: str
    """BLAKE2b over relative paths, sizes and contents of the source, 32 hex digits."""

    decoded: int = 0
    """Images that this call decoded: 0 where the cache had them."""

    several_targets: tuple[Tensor, Tensor] | None = None
    """What an example has beside its label, of the training and of the test set: (N, T), the first the label."""

    input_shapes: Shapes = ()
    """Where an example has several inputs, packed into one row of `images`, the shape of each."""

    @property
    def targets(self) -> Tensor:
        """What the loss sees: the labels (N,), or all that an example has (N, T), the first the label."""
        return self.labels if self.several_targets is None else self.several_targets[0]

    @property
    def test_targets(self) -> Tensor:
        """Likewise of the test set."""
        return self.test_labels if self.several_targets is None else self.several_targets[1]


@dataclass(frozen=True)
class Source:
    """Where data come from, before anything is decoded."""

    identity: list[Any]
    """JSON that tells it: settings that decide what is decoded; names, sizes and times of files."""

    write: Build
    """Decodes everything into `.npy` files in the folder it is given."""


def _quiet(done: int, total: int) -> None:
    """Tell nobody."""


def load(
    settings: DataSettings,
    *,
    root: Path | None,
    cache: Path,
    seed: int,
    replicate: int = 0,
    download: bool = False,
    progress: Progress = _quiet,
) -> Dataset:
    """Return the data set that `settings` name, decoded now if the cache lacks it.

    Parameters
    ----------
    settings : mapping
        The table `data`, resolved.
    root : Path, optional
        The data root (`data.root`, `--data-root`); without it the working folder.
    cache : Path
        Folder of decoded data. Processes that ask for the same at once wait for the one that decodes.
    seed : int
        `training.seed`: decides the test set that `data.test` sets apart, stratified, and a user's function's draw.
    replicate : int
        Of the trial: other pairs of digits, another draw of a user's function that takes a seed. No file is decoded
        again for it.
    download : bool
        Let torchvision fetch what is missing.
    progress : callable
        Called with images done and in all, while they are decoded.

    Raises
    ------
    DataError
        Where data are missing, unreadable, or not data; where the cache cannot be written.
    ScanError
        Where a user's function cannot be imported.
    """
    root = Path(root or "").absolute()
    if is_dotted(settings["name"]):
        offers = user_function.offers(settings["name"], seed=seed, replicate=replicate, root=root)
        returned = _returned(settings["name"], {**offers, **settings["arguments"]}, settings["test"], seed)
        _check_augmentation(settings, returned)
        return returned
    stored = _stored(settings)
    if download and stored["name"] in TORCHVISION:
        sources.download(stored["name"], root)
    found = _cached(stored, root, cache, seed, progress)
    if settings["name"] == "mnist_pairs":
        return _pairs(settings, found, seed32(seed, Purpose.DATA, replicate=replicate))
    return found


def _stored(settings: DataSettings) -> DataSettings:
    """Return the table of the data that lie in the cache: pairs of digits are drawn of them."""
    return {"name": "mnist"} if settings["name"] == "mnist_pairs" else settings


def _pairs(settings: DataSettings, mnist: Dataset, seed: int) -> Dataset:
    """Return pairs of digits, kept in memory: each replicate has its own, and configurations take turns with them."""
    key = _hash(["mnist_pairs", mnist.fingerprint, settings["pairs"], settings["test_pairs"], seed])
    return replace(_kept_or(key, lambda: _drawn(settings, mnist, seed)), decoded=mnist.decoded)


def _drawn(settings: DataSettings, mnist: Dataset, seed: int) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    training, testing = (mnist.images, mnist.labels), (mnist.test_images, mnist.test_labels)
    train = digit_pairs.draw(training, settings["pairs"], generator, "data.pairs")
    test = digit_pairs.draw(testing, settings["test_pairs"], generator, "data.test_pairs")
    return _in_memory(train, test, digit_pairs.CLASSES, mnist.fingerprint)


def stamp(settings: DataSettings, root: Path | None) -> str:
    """Return 32 hex digits that tell the source without decoding it: names, sizes and times of its files.

    Of a user's function its source file and its arguments. Raises DataError where data are missing.
    """
    if is_dotted(settings["name"]):
        return _hash([code_fingerprint({"data": settings}), settings["arguments"]])
    return _hash(_source(_stored(settings), Path(root or "").absolute(), _quiet).identity)


def _source(settings: DataSettings, root: Path, progress: Progress) -> Source:
    name = settings["name"]
    if name == "digits":
        return Source([name], sources.write_digits)
    if name in TORCHVISION:
        identity = [name, _stamps(root, sources.files(name, root))]
        return Source(identity, partial(sources.write_torchvision, name, root))
    if name == "image_folder":
        return _image_folder(root, settings["size"], settings["color"], settings["test"], progress)
    known = ", ".join(["digits", *TORCHVISION, "mnist_pairs", "image_folder"])
    raise DataError(f"data.name = {name!r} is not known. It is one of {known}, or 'package.module:function'.")


def _image_folder(root: Path, size: int, color: str, test: float, progress: Progress) -> Source:
    found = images.listing(root, test)
    identity = ["image_folder", size, color, *found.classes, _stamps(root, found.train.paths + found.test.paths)]
    return Source(identity, partial(images.write, found, size, color, progress))


def _stamps(root: Path, paths: Sequence[str]) -> str:
    """Return a hash of path, size in bytes and time of the last change in ns of each file."""
    content = hashlib.blake2b(digest_size=16)
    for path in paths:
        status = os.stat(f"{root}/{path}")  # noqa: PTH116 - thousands of files: a Path for each doubles the time
        content.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return content.hexdigest()


def _cached(settings: DataSettings, root: Path, caches: Path, seed: int, progress: Progress) -> Dataset:
    source = _source(settings, root, progress)
    whole = caches / f"{settings['name']}-{_hash([FORMAT, str(root), source.identity])}"
    decoded = 0

    def decode(folder: Path) -> Manifest:
        nonlocal decoded
        manifest = source.write(folder)
        decoded = manifest["decoded"]
        return manifest

    def set_apart(folder: Path) -> Manifest:
        return _write_apart(whole, entry(whole, decode), settings["test"], seed, folder)

    if settings.get("test"):
        folder = whole.with_name(f"{whole.name}-test-{_hash([settings['test'], seed])}")
        manifest = entry(folder, set_apart)
    else:
        folder = whole
        manifest = entry(folder, decode)
    return _opened(folder, manifest, decoded)


def _opened(folder: Path, manifest: Manifest, decoded: int) -> Dataset:
    images, labels, test_images, test_labels = (open_array(folder / f"{name}.npy") for name in ARRAYS)
    classes = tuple(manifest["classes"])
    return Dataset(images, labels, test_images, test_labels, classes, manifest["fingerprint"], decoded)


def _write_apart(whole: Path, manifest: Manifest, test: float, seed: int, folder: Path) -> Manifest:
    """Write the entry `whole` once more, its training set divided; nothing is decoded for another seed or fraction."""
    pixels, labels = open_array(whole / "images.npy"), open_array(whole / "labels.npy")
    for prefix, indices in zip(("", "test_"), split_test(labels, test, seed=seed), strict=True):
        with array_writer(folder / f"{prefix}labels.npy", (len(indices),), "<i8") as append:
            append(labels[indices].numpy())
        shape = (len(indices), *pixels.shape[1:])
        with array_writer(folder / f"{prefix}images.npy", shape) as append:
            for chunk in torch.split(indices, COPIED_EXAMPLES):
                append(pixels[chunk].numpy())
    return {**manifest, "test": test, "seed": seed}


def _returned(name: str, arguments: Mapping[str, Any], test: float, seed: int) -> Dataset:
    """Return what a user's function gives.

    Kept in memory, not on disk: what the function read cannot be seen to have changed.
    """
    key = _hash([name, {key: str(value) if isinstance(value, Path) else value for key, value in arguments.items()}])
    key += _hash([test, seed])
    return _kept_or(key, lambda: _divided(name, user_function.call(name, arguments), test, seed))


def _kept_or(key: str, make: Callable[[], Dataset]) -> Dataset:
    """Return the data set that is kept as `key`, or what `make` makes, which is then kept."""
    if key not in _kept:
        _kept[key] = make()
    _kept.move_to_end(key)
    while len(_kept) > 1 and sum(_bytes(kept) for kept in _kept.values()) > KEPT_BYTES:
        _kept.popitem(last=False)
    return _kept[key]


_kept: OrderedDict[str, Dataset] = OrderedDict()
"""What users' functions returned to this process, and drawn pairs, the latest used last: trials share them."""


def _divided(name: str, made: Returned, test: float, seed: int) -> Dataset:
    if made.test is not None:
        if test:
            raise DataError(f"data.test = {test}, but {name} returned a test set. Leave one of the two out.")
        return _of_function(made, made.train, made.test)
    if not test:
        raise DataError(f"{name} returned no test set. Return one, or have one set apart: --set data.test=0.2")
    inputs, targets = made.train
    train, apart = split_test(first_column(targets), test, seed=seed)
    return _of_function(made, (inputs[train], targets[train]), (inputs[apart], targets[apart]))


def _of_function(made: Returned, train: Part, test: Part) -> Dataset:
    return replace(_in_memory(train, test, made.classes, made.fingerprint), input_shapes=made.input_shapes)


Part = tuple[Tensor, Tensor]
"""Inputs and targets."""


def _in_memory(train: Part, test: Part, classes: tuple[str, ...], fingerprint: str) -> Dataset:
    return Dataset(
        images=train[0],
        labels=first_column(train[1]),
        test_images=test[0],
        test_labels=first_column(test[1]),
        classes=classes,
        fingerprint=fingerprint,
        several_targets=(train[1], test[1]) if train[1].dim() > 1 else None,
    )


def _check_augmentation(settings: DataSettings, returned: Dataset) -> None:
    if returned.images.dim() != 4 and is_on(settings["augmentation"]):
        raise DataError(
            f"data.augmentation is for images, (N, C, H, W), but an example of {settings['name']} has the shape"
            f" {tuple(returned.images.shape[1:])}. Leave data.augmentation out."
        )


def _bytes(dataset: Dataset) -> int:
    return dataset.images.nbytes + dataset.test_images.nbytes


def _hash(values: Any) -> str:
    return hashlib.blake2b(canonical_json(values).encode(), digest_size=16).hexdigest()
