"""What a scan's results depend on beyond its settings: the content of its data, the source of a user's functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from nnscan.dotted import code_fingerprint, dotted_paths, is_dotted, refuse_stale
from nnscan.grid import Branch, Grid
from nnscan.identity import NUMERICS, canonical_json
from nnscan.scan import Scan

DataProgress = Callable[[int, int], None]
"""Called with images decoded and in all."""


def quiet(done: int, total: int) -> None:
    """Tell nobody."""


def present(scan: Scan, cache: Path, download: bool, progress: DataProgress = quiet) -> dict[str, set[str]]:
    """Return the fingerprints of now, by the column of trials/ that holds them; data are decoded where need be."""
    return {
        "data_fingerprint": of_data(scan, cache, download, progress),
        "code_fingerprint": of_code(scan),
        "numerics": {str(NUMERICS)},
    }


def of_code(scan: Scan) -> set[str]:
    """Return the fingerprints of the users' functions that `scan` names; "" of configurations without any.

    ScanError where a file has changed since this process imported it.
    """
    named = [_names(branch) for grid in scan.grids for branch in grid.branches.values()]
    refuse_stale(path for names in named for path in dotted_paths(names))
    return {code_fingerprint(names) for names in named}


def of_data(scan: Scan, cache: Path, download: bool, progress: DataProgress) -> set[str]:
    """Return the fingerprints of the data that `scan` names, decoded now where the cache lacks them; checks the folds.

    A user's own data function is not called: what it returns may depend on the replicate, and its source is told by
    `of_code`.

    Raises
    ------
    DataError
        Where data are missing or unreadable, or a class is too small for the folds.
    """
    variants = [settings for settings in data_settings(scan) if not is_dotted(settings["name"])]
    return {_checked(scan, settings, cache, download, progress) for settings in variants}


def _checked(scan: Scan, settings: Mapping[str, Any], cache: Path, download: bool, progress: DataProgress) -> str:
    from nnscan.data.dataset import load  # torch
    from nnscan.data.folds import check_folds

    dataset = load(settings, root=scan.data_root, cache=cache, seed=0, download=download, progress=progress)
    check_folds(dataset.labels, scan.validation, dataset.classes)
    return dataset.fingerprint


def data_settings(scan: Scan) -> list[dict[str, Any]]:
    """Return the distinct tables `data` of the configurations of `scan`, less what does not decide what is decoded."""
    found = (settings for grid in scan.grids for settings in _of_grid(grid))
    distinct = {canonical_json(settings): settings for settings in found if settings}
    return list(distinct.values())


def _of_grid(grid: Grid) -> Iterator[dict[str, Any]]:
    for choice, branch in grid.branches.items():
        axes = {path: axis for path, axis in branch.axes.items() if _decides(path)}
        chosen = dict(zip(grid.naming, choice, strict=True))
        groups = sorted({group for group, _ in axes.values()})
        constants = {path: value for path, value in branch.constants.items() if _decides(path)}
        for point in product(*([chosen[group]] if group in chosen else range(grid.sizes[group]) for group in groups)):
            at = dict(zip(groups, point, strict=True))
            yield _nested({**constants, **{path: values[at[group]] for path, (group, values) in axes.items()}})


def _decides(path: tuple[str, ...]) -> bool:
    # ("data",) alone: a training function has no data
    return path[0] == "data" and path[1:2] not in ((), ("augmentation",), ("normalization",))


def _nested(options: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """Return the options of a table, whose names come first in the paths, as nested dicts without the table's name."""
    nested: dict[str, Any] = {}
    for path, value in options.items():
        table = nested
        for name in path[1:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    return nested


def _names(branch: Branch) -> dict[str, dict[str, Any]]:
    named = (("data", "name"), ("model", "name"), ("task", "name"), ("training", "function"))
    return {table: {name: branch.constants.get((table, name), "")} for table, name in named}
