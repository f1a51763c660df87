"""Reads a scan file, checks it whole, and says what is to be run. Nothing is created, and no data are needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnscan import named_files, toml, weight_files
from nnscan.dotted import make_importable
from nnscan.errors import Problem, ScanError
from nnscan.grid import Branch, Grid, further_metrics
from nnscan.leaves import (
    DATA_ROOT,
    Document,
    GridTable,
    Leaf,
    Leaves,
    apply_axes,
    apply_overrides,
    dotted,
    parse,
    read_document,
)
from nnscan.options.declared import KeyPath, list_options, nearest, show
from nnscan.options.rules import Rule, resource_problems, rules_of
from nnscan.options.tables import VALIDATION, Options, Resources, Selection
from nnscan.resolve import Resolution, resolve_grid
from nnscan.results.metric import METRICS, PER_CLASS, RESERVED

PACKAGED_JOBS = Path(__file__).parent / "jobs"
"""Scan files in an installed nnscan; in a checkout they lie in `jobs`, beside the package."""

DEFAULT_SCAN = "digits"
DEFAULT_METRIC = "val_accuracy"
LARGEST_FILE_MB = 16
MOST_TRIALS = 10_000_000
"""A larger grid is a slip: its plan alone would fill the memory."""

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_/-]*")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a scan file asks for, resolved and checked."""

    name: str
    """Name of the scan folder."""

    source: str
    """The file it was read from, for messages."""

    grids: tuple[Grid, ...]
    """The `[[grid]]` tables; of a file without any, one grid of one point, whose family is the scan's name."""

    validation: Mapping[str, Any]
    """As in settings: `folds` or `holdout`, and `stratified`."""

    replicates: int
    """How often each training is repeated with other draws."""

    metric: str
    """Names the best epoch and ranks."""

    resources: Resources

    data_root: Path | None
    """Where the data lie; None: where the working folder is."""

    weights: Mapping[str, Path] = field(default_factory=dict)
    """The files of weights that the scan file names by paths, by their SHA-256."""

    @property
    def folds(self) -> int:
        """Number of trials of a configuration and replicate: 1 with a hold-out."""
        return int(self.validation.get("folds", 1))

    @property
    def families(self) -> tuple[str, ...]:
        """The families, in file order, each once."""
        return tuple(dict.fromkeys(grid.family for grid in self.grids))

    def toml(self) -> str:
        """Return a scan file with every default written out; loaded, it gives the same configurations."""
        return _rendered(self)


# ------------------------------------------------------------------------------------------------ files


def load(
    source: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    axes: Sequence[str] = (),
    data_root: str | Path | None = None,
) -> Scan:
    """Read and check a scan file.

    Parameters
    ----------
    source
        A path, or the name of a file in `jobs` or of one that comes with nnscan; None: the digits scan.
    overrides
        `KEY=VALUE` each, for all families, or `FAMILY:KEY=VALUE` (`--set`).
    axes
        `KEY=A,B,C` each: an axis in every grid table (`--grid`).
    data_root
        Where a relative `data.root` starts; without one the working folder.

    Raises
    ------
    ScanError
        With every problem of the file.
    """
    path = find_scan_file(None if source is None else str(source))
    return read(_text(path), str(path), overrides=overrides, axes=axes, data_root=data_root)


def find_scan_file(name: str | None = None) -> Path:
    """Return the file that `name` means: a path, or a file in `./jobs` or among those that come with nnscan.

    Without a name, the digits scan.
    """
    packaged = named_files.shipped(PACKAGED_JOBS)
    if name is None:
        return packaged / f"{DEFAULT_SCAN}.toml"
    folders = (Path("jobs"), packaged)
    if path := named_files.first([Path(name), *named_files.places(name, folders)], Path.exists):
        return path
    known = named_files.names(folders)
    hint = nearest(Path(name).name.removesuffix(".toml"), known)
    message = f"no such file, and no scan of that name in jobs.{hint} There are: {', '.join(known)}."
    raise ScanError(name, [Problem("SCAN", message)])


def _text(path: Path) -> str:
    try:
        return named_files.text_of(path, "scan file", "jobs/digits.toml", LARGEST_FILE_MB * 2**10)
    except ValueError as error:
        raise ScanError(str(path), [Problem("SCAN", str(error))]) from error


# ------------------------------------------------------------------------------------------------ checks


def read(
    text: str,
    source: str = "<text>",
    *,
    overrides: Sequence[str] = (),
    axes: Sequence[str] = (),
    data_root: str | Path | None = None,
) -> Scan:
    """Check the text of a scan file; the arguments are those of `load`."""
    make_importable(Path.cwd())
    tables, problems = parse(text)
    if problems:
        raise ScanError(source, problems)
    document, problems = read_document(tables)
    problems += apply_overrides(document, overrides)
    name = _name(document.base, source, problems)
    problems += [problem for table in document.grids for problem in _family_problems(table)]
    if not document.grids:
        document.grids.append(GridTable("grid[0]", name, []))
    problems += apply_axes(document, axes)
    weights = weight_files.resolve(document, problems)
    scan = _checked(document, name, source, _root(document.base, data_root, problems), problems)
    if problems:
        raise ScanError(source, list(dict.fromkeys(problems)))
    return replace(scan, weights=weights)


def _checked(document: Document, name: str, source: str, root: Path | None, problems: list[Problem]) -> Scan:
    """Return the scan of a document, to be used where nothing is added to `problems`."""
    if {("validation", "folds"), ("validation", "holdout")} <= set(document.base):
        del document.base["validation", "holdout"]
        problems.append(Problem("validation", "found folds and holdout; accepted: one of them."))
    validation = _whole_scan_table("validation", VALIDATION, document.base, problems)
    resources = _resources(document.base, problems)
    selection = _whole_scan_table("selection", (Selection,), document.base, problems)
    grids = _grids(document, validation, rules_of(resources), problems)
    scan = Scan(
        name=name,
        source=source,
        grids=grids,
        validation={key: value for key, value in validation.items() if key != "replicates"},
        replicates=validation.get("replicates", 1),
        metric=_metric(selection.get("metric", ""), grids, problems),
        resources=resources,
        data_root=root,
    )
    problems += _too_many(scan)
    return scan


def _whole_scan_table(
    name: str, parts: Sequence[type[Options]], base: Leaves, problems: list[Problem]
) -> dict[str, Any]:
    """Return the options of a table that holds for the whole scan."""
    resolution = Resolution({}, {path: leaf for path, leaf in base.items() if path[0] == name}, "")
    resolution.resolve((name,), parts)
    problems += resolution.problems
    return {path[1]: value for path, value in resolution.constants.items()}


def _resources(base: Leaves, problems: list[Problem]) -> Resources:
    found: list[Problem] = []
    resources = Resources.model_construct(**_whole_scan_table("resources", (Resources,), base, found))
    problems += found or resource_problems(resources)
    return resources


def _grids(
    document: Document, validation: Mapping[str, Any], rules: Sequence[Rule], problems: list[Problem]
) -> tuple[Grid, ...]:
    constants: dict[KeyPath, Any] = {
        ("validation", key): value for key, value in validation.items() if key != "replicates"
    }
    grids = []
    for table in document.grids:
        grid, found = resolve_grid(document.base, table, constants, rules)
        grids.append(grid)
        problems += found
    return tuple(grids)


def _family_problems(table: GridTable) -> Iterator[Problem]:
    if table.family is None:
        yield Problem(f"{table.where}.family", 'missing: give the grid table a name, such as family = "CNN".')
    elif _unfit(table.family):
        yield Problem(f"{table.where}.family", _unfit(table.family))


def _unfit(name: Any) -> str:
    """Return why `name` cannot be part of a file's name; "" where it can."""
    if isinstance(name, str) and _FILE_NAME.fullmatch(name):
        return ""
    return f"found {show(name)}; accepted: up to 100 letters, digits and . _ -, the first a letter or a digit."


def _name(base: Leaves, source: str, problems: list[Problem]) -> str:
    """Return the name of the scan: that of the file, without one of its own."""
    leaf = base.pop(("name",), Leaf(("name",), Path(source).stem, "name"))
    if _unfit(leaf.value):
        problems.append(Problem(leaf.where, _unfit(leaf.value)))
    return str(leaf.value)


def _root(base: Leaves, data_root: str | Path | None, problems: list[Problem]) -> Path | None:
    """Return where the data lie: `data.root`, below `data_root` or the working folder where it is relative."""
    leaf = base.pop(DATA_ROOT, None)
    if leaf is None:
        return None if data_root is None else Path(data_root).absolute()
    if not isinstance(leaf.value, str) or "\0" in leaf.value:
        problems.append(Problem(leaf.where, f"found {show(leaf.value)}; accepted: the path of a folder."))
        return None
    return Path(data_root or "").absolute() / leaf.value


def _too_many(scan: Scan) -> Iterator[Problem]:
    configurations = sum(grid.count for grid in scan.grids)
    trials = configurations * scan.folds * scan.replicates
    if trials > MOST_TRIALS:
        found = f"{configurations} configurations x {scan.folds} folds x {scan.replicates} replicates"
        yield Problem("grid", f"spans {trials} trials ({found}); accepted: up to {MOST_TRIALS}. Take fewer values.")


# ------------------------------------------------------------------------------------------------ metrics


def _metric(asked: str, grids: Sequence[Grid], problems: list[Problem]) -> str:
    """Return what ranks: as asked, or the default of the first configurations."""
    told = [_told_metrics(grid, branch, problems) for grid in grids for branch in grid.branches.values()]
    metric = asked or (_default_metric(told[0]) if told else DEFAULT_METRIC)
    for names in told:
        if names and metric not in names:
            message = f"found {show(metric)}; training tells: {', '.join(names)}.{nearest(metric, names)}"
            problems.append(Problem("selection.metric", message))
    return metric


def _default_metric(names: Sequence[str]) -> str:
    return DEFAULT_METRIC if DEFAULT_METRIC in names or not names else names[0]


def _told_metrics(grid: Grid, branch: Branch, problems: list[Problem]) -> list[str]:
    """Return the metrics that can rank the configurations of `branch`; none where they are not known."""
    of_function = branch.constants.get(("data",)) == {}  # a training function leaves the table of the data empty
    path, prefix = (("training", "metrics"), "") if of_function else (("task", "metrics"), "val_")
    if path in branch.axes:
        where = f"{dotted(path)} (family {show(grid.family)})"
        problems.append(Problem(where, "cannot be an axis: what a function measures does not vary."))
    names: list[str] = branch.constants.get(path, [])
    problems += [Problem(dotted(path), message) for name in names if (message := _unfit_metric(name, names, prefix))]
    if of_function:
        return names
    return [*(name for name in METRICS if name not in PER_CLASS), *(f"val_{name}" for name in further_metrics(branch))]


def _unfit_metric(name: str, names: Sequence[str], prefix: str) -> str:
    if names.count(name) > 1:
        return f"{show(name)} stands there twice."
    if f"{prefix}{name}" in (METRICS if prefix else RESERVED):
        return f"{show(prefix + name)} is a column of nnscan's tables: give it another name."
    if not _METRIC_NAME.fullmatch(name):
        return f"found {show(name)}; accepted: letters, digits and _ / -, the first a letter."
    return ""


# ------------------------------------------------------------------------------------------------ writing


def _rendered(scan: Scan) -> str:
    fixed = [_fixed(grid) for grid in scan.grids]
    shared = _shared(fixed)
    whole: dict[KeyPath, Any] = {("validation", key): value for key, value in scan.validation.items()}
    whole["validation", "replicates"] = scan.replicates
    whole["selection", "metric"] = scan.metric
    whole |= {("resources", key): value for key, value in scan.resources.model_dump().items()}
    if scan.data_root is not None:
        whole[DATA_ROOT] = str(scan.data_root)
    by_table: dict[str, dict[KeyPath, Any]] = {}
    for path, value in {**shared, **whole}.items():
        by_table.setdefault(path[0], {})[path[1:]] = value
    tables = [toml.table(f"[{name}]", lines) for name, lines in by_table.items()]
    grids = [_grid_table(grid, own, shared) for grid, own in zip(scan.grids, fixed, strict=True)]
    return "\n".join([f"name = {toml.value(scan.name)}\n", *tables, *grids])


def _fixed(grid: Grid) -> dict[KeyPath, Any]:
    """Return the options that have one value in all of `grid`, tables without options left out."""
    varied = {axis.path for group in grid.groups for axis in group}
    first, *others = [branch.constants for branch in grid.branches.values()]
    return {
        path: value
        for path, value in first.items()
        if path not in varied and len(path) > 1 and all(_same(path, value, other) for other in others)
    }


def _shared(fixed: Sequence[Mapping[KeyPath, Any]]) -> dict[KeyPath, Any]:
    """Return the options that all grids agree on; none of a table whose name they do not agree on."""
    first = fixed[0]
    shared = {path: value for path, value in first.items() if all(_same(path, value, other) for other in fixed)}
    apart = {path[0] for path in first if path[1:] == ("name",)} - {path[0] for path in shared if path[1:] == ("name",)}
    return {path: value for path, value in shared.items() if path[0] not in apart}


def _same(path: KeyPath, value: Any, constants: Mapping[KeyPath, Any]) -> bool:
    """Return whether an option has this value, of this type: 1 and 1.0 are two arguments."""
    return path in constants and toml.value(constants[path]) == toml.value(value)


def _grid_table(grid: Grid, fixed: Mapping[KeyPath, Any], shared: Mapping[KeyPath, Any]) -> str:
    lines: dict[KeyPath, Any] = {("family",): grid.family}
    if zipped := [[dotted(axis.path) for axis in group] for group in grid.groups if len(group) > 1]:
        lines["zip",] = zipped
    lines |= {path: _as_in_grid(path, value) for path, value in fixed.items() if path not in shared}
    lines |= {axis.path: list(axis.values) for group in grid.groups for axis in group}
    return toml.table("[[grid]]", lines)


def _as_in_grid(path: KeyPath, value: Any) -> Any:
    """Return what stands for one value in a grid table, where a list is an axis."""
    return [value] if isinstance(value, list) and path not in list_options() else value
