"""Weights that a scan starts from: put where every worker finds them, and tried on their networks, before any trial."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from nnscan.dotted import is_dotted
from nnscan.errors import DataError, NnscanError, Problem, ScanError
from nnscan.grid import configurations, samples
from nnscan.identity import canonical_json
from nnscan.results.folder import told, write_atomically
from nnscan.scan import Scan
from nnscan.trial import Settings
from nnscan.weight_files import DIGEST, names

MOST_NETWORKS = 32
"""Networks that are built for a try: a grid of a thousand widths would take a while, and most slips are in all."""


def starts(scan: Scan) -> list[Settings]:
    """Return settings of `scan` whose networks begin with weights from a file: one configuration of those alike."""
    if not any(_begins_with_weights(one) for one in samples(scan.grids)):
        return []
    found = (one.settings for one in configurations(scan))
    distinct = {canonical_json(_start(one)): one for one in filter(_begins_with_weights, found)}
    return list(distinct.values())


def _begins_with_weights(settings: Settings) -> bool:
    return any(name != "none" for name in _named(settings))


def _named(settings: Settings) -> tuple[str, str]:
    """Return what `settings` say of weights: those of the model, and those of the warm start."""
    model, training = settings.get("model", {}), settings.get("training", {})
    return model.get("weights", "none"), training.get("warm_start", "none")


def _start(settings: Settings) -> Settings:
    """Return the part of `settings` that says which network starts from which weights."""
    data = {name: value for name, value in settings["data"].items() if name not in ("augmentation", "normalization")}
    training = {name: value for name, value in settings["training"].items() if name in ("warm_start", "seed")}
    return {"data": data, "model": settings["model"], "task": settings["task"]["name"], "training": training}


# ------------------------------------------------------------------------------------------------ files


def gather(scan: Scan, folder: Path) -> list[str]:
    """Put the files of weights that `scan` names into `folder`, where workers look, and tell which are nowhere here.

    torchvision downloads what it has not yet; that, and whatever lies in torch's folder, is copied, too: a node of a
    cluster need not have it.

    Raises
    ------
    DataError
        Where a file is no file of weights, or has changed since the scan file was read.
    StoreError
        Where `folder` cannot be written.
    """
    missing = []
    for digest, path in scan.weights.items():
        _put(folder / digest, _checked(path, digest))
    for model, weights in sorted({one for settings in starts(scan) for one in _wanted(settings)}):
        try:
            _fetch(model, weights, folder)
        except DataError as error:
            missing.append(str(error))
    return missing


def _wanted(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the weights that `settings` name, each with the model that it names them for."""
    yield from ((settings["model"]["name"], name) for name in _named(settings) if name != "none")


def _checked(path: Path, digest: str) -> bytes:
    """Return the content of a file of weights, which reads."""
    from nnscan.models.weights import parse  # torch

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"The weights {path} cannot be read: {error.strerror or error}.") from error
    if hashlib.sha256(content).hexdigest() != digest:
        raise DataError(f"The weights {path} have changed since the scan file was read: launch again.")
    parse(content, path)
    return content


def _fetch(model: str, weights: str, folder: Path) -> None:
    """Copy weights that lie in torch's folder, or that torchvision downloads, into `folder`."""
    from nnscan.models.torchvision_models import named_file  # torch
    from nnscan.models.weights import find

    target = _place(model, weights, folder)
    if not target.is_file():
        named = not weights.startswith(DIGEST)
        path = named_file(_name(model), weights) if named else find(weights.removeprefix(DIGEST))
        _put(target, path.read_bytes())


def _place(model: str, weights: str, folder: Path) -> Path:
    """Return where in `folder` weights lie: under their SHA-256, or under torchvision's name."""
    if weights.startswith(DIGEST):
        return folder / weights.removeprefix(DIGEST)
    from nnscan.models.torchvision_models import file_name  # torch

    return folder / file_name(_name(model), weights)


def _name(model: str) -> str:
    return model.removeprefix("torchvision:")


def _put(target: Path, content: bytes) -> None:
    if target.is_file() and target.stat().st_size == len(content):
        return
    with told(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)


# ------------------------------------------------------------------------------------------------ networks


def check(scan: Scan, cache: Path, folder: Path) -> None:
    """Build the networks of `scan` that begin with weights once: what does not fit is told before any trial.

    Those whose weights `gather` found: and not on a user's own data, which are the worker's to make.

    Raises
    ------
    DataError, ScanError
        Where weights do not read, or are of another network.
    """
    for settings in starts(scan)[:MOST_NETWORKS]:
        here = all(_place(*one, folder).is_file() for one in _wanted(settings))
        if here and not is_dotted(settings["data"]["name"]):
            _try(settings, scan, cache, folder)


def _try(settings: Settings, scan: Scan, cache: Path, folder: Path) -> None:
    from nnscan.data.dataset import load  # torch
    from nnscan.data.packing import InputShape
    from nnscan.models.build import build
    from nnscan.models.weights import start_from
    from nnscan.tasks import task

    dataset = load(settings["data"], root=scan.data_root, cache=cache, seed=settings["training"]["seed"])
    shape: InputShape = dataset.input_shapes or tuple(dataset.images.shape[1:])
    classes = len(dataset.classes)
    try:
        scores = task.of(settings["task"], classes).scores
        network = build(settings["model"], shape, classes, weights=folder, scores=scores)
        start_from(settings["training"].get("warm_start", "none"), network, folder)
    except ScanError as error:
        problems = [Problem(one.path, _with_files(one.message, scan)) for one in error.problems]
        raise ScanError(scan.source, problems) from error
    except NnscanError:
        raise
    except Exception:  # a network that cannot be built is a failed trial, which tells all of it
        return


def _with_files(message: str, scan: Scan) -> str:
    """Return `message` with the files as the user knows them."""
    for name, path in names(scan.weights).items():
        message = message.replace(name, str(path))
    return message
