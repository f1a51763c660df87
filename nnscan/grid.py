"""The points of a grid: configurations in file order, each with its key.

A grid has been checked when it comes here (`nnscan.resolve`), value by value. Here its points are only put together: of
the canonical JSON of a point all is the same as of its neighbours but the texts of the axes' values, so these are made
once each, and a point is a join of strings and one hash (about 5 microseconds; general JSON would take 40).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

from nnscan.identity import canonical_json, left_out, text_key
from nnscan.options.declared import KeyPath
from nnscan.results.metric import METRICS, task_metrics

if TYPE_CHECKING:
    from nnscan.scan import Scan


@dataclass(frozen=True, slots=True)
class Configuration:
    """One point of a grid: every setting that decides a result, resolved, defaults included."""

    key: str
    """32 hex digits (`nnscan.identity.configuration_key` of the settings)."""

    family: str
    """Name of the sub-grid; a configuration in two families comes twice."""

    text: str
    """Canonical JSON of the settings."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings, as nested dicts of JSON values."""
        return json.loads(self.text)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Axis:
    """An option that a grid varies."""

    path: KeyPath
    values: tuple[Any, ...]
    """As the scan file has them."""


@dataclass(frozen=True)
class Branch:
    """Points of a grid that differ in nothing but values: models, optimizers, functions are the same.

    Each value has its declared type, which is why a grid has several branches where it varies a name.
    """

    constants: Mapping[KeyPath, Any]
    """Options with one value; a table without any option stands here as {}."""

    axes: Mapping[KeyPath, tuple[int, tuple[Any, ...]]]
    """The other options: the position of the group that an option varies with, and its values."""


@dataclass(frozen=True)
class Grid:
    """A `[[grid]]` table, resolved."""

    family: str

    groups: tuple[tuple[Axis, ...], ...]
    """The axes in file order, where TOML puts all keys of a table where the table first comes; those of a group vary
    together (`zip`). The last varies fastest."""

    naming: tuple[int, ...]
    """Positions of the groups that choose a branch."""

    branches: Mapping[tuple[int, ...], Branch]
    """By the indices into the naming groups."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each group."""
        return tuple(len(group[0].values) for group in self.groups)

    @property
    def count(self) -> int:
        """Number of points."""
        return prod(self.sizes)


def configurations(scan: Scan) -> Iterator[Configuration]:
    """Yield the configurations of `scan`, in file order; the last axis varies fastest.

    One that comes twice within a family is one; one that is in two families comes in both.
    """
    seen: dict[str, set[str]] = {}
    for grid in scan.grids:
        keys = seen.setdefault(grid.family, set())
        for text in texts(grid):
            key = text_key(text)
            if key not in keys:
                keys.add(key)
                yield Configuration(key, grid.family, text)


def texts(grid: Grid) -> Iterator[str]:
    """Yield the canonical JSON of the settings of each point of `grid`."""
    writers = {choice: _Writer(branch) for choice, branch in grid.branches.items()}
    for point in product(*map(range, grid.sizes)):
        yield writers[tuple([point[group] for group in grid.naming])].write(point)


class _Writer:
    """Writes the points of a branch: the constant text in the even places of `parts`, an axis in each odd one."""

    def __init__(self, branch: Branch) -> None:
        self.parts: list[str] = [""]
        self.slots: list[tuple[int, list[str]]] = []
        self._add(_tree(branch))

    def _add(self, tree: Any) -> None:
        if isinstance(tree, _Slot):
            self.slots.append((tree.group, [canonical_json(value) for value in tree.values]))
            self.parts += ["", ""]
        elif isinstance(tree, dict):
            self._add_members(tree)
        else:
            self.parts[-1] += canonical_json(tree)

    def _add_members(self, tree: dict[str, Any]) -> None:
        comma = "{"
        for name in sorted(tree):
            member = tree[name]
            if isinstance(member, _Slot) and any(member.left_out):
                comma = self._add_optional(name, member, comma)
            else:
                self.parts[-1] += f"{comma}{canonical_json(name)}:"
                self._add(member)
                comma = ","
        self.parts[-1] += "}" if tree else "{}"

    def _add_optional(self, name: str, slot: _Slot, comma: str) -> str:
        """Add a member that only some of the points have; return what stands before the next one.

        The comma is the member's own. Options of its table that every point has (`Later.beside`) see to it that one of
        its neighbours stays.
        """
        before, behind = (comma, "") if comma == "," else ("", ",")
        self.parts[-1] += comma.removesuffix(",")
        written = [f"{before}{canonical_json(name)}:{canonical_json(value)}{behind}" for value in slot.values]
        texts = ["" if absent else text for absent, text in zip(slot.left_out, written, strict=True)]
        self.slots.append((slot.group, texts))
        self.parts += ["", ""]
        return comma if comma == "," else ""

    def write(self, point: Sequence[int]) -> str:
        parts = self.parts
        parts[1::2] = [values[point[group]] for group, values in self.slots]
        return "".join(parts)


@dataclass(frozen=True)
class _Slot:
    """Where the values of an axis go."""

    group: int
    values: tuple[Any, ...]
    left_out: tuple[bool, ...]
    """Of each value, whether settings do not hold it."""


def _tree(branch: Branch) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    constants = {path: value for path, value in branch.constants.items() if not left_out(path, value)}
    slots = {path: _slot(path, *axis) for path, axis in branch.axes.items()}
    for path, value in {**constants, **slots}.items():
        table = tree
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    return tree


def _slot(path: KeyPath, group: int, values: tuple[Any, ...]) -> _Slot:
    return _Slot(group, values, tuple(left_out(path, value) for value in values))


def axes(grids: Sequence[Grid]) -> dict[KeyPath, list[Any]]:
    """Return the options that differ between points of `grids`, each with its values in the order of the file.

    An option that only some of the points have (the `momentum` of one optimizer of two) counts where it has two values.
    """
    found: dict[KeyPath, dict[str, Any]] = {}
    for grid in grids:
        for branch in grid.branches.values():
            for path, values in _values(branch):
                found.setdefault(path, {}).update((canonical_json(value), value) for value in values)
    return {path: list(values.values()) for path, values in found.items() if len(values) > 1}


def _values(branch: Branch) -> Iterator[tuple[KeyPath, Sequence[Any]]]:
    yield from ((path, values) for path, (_, values) in branch.axes.items())
    yield from ((path, (value,)) for path, value in branch.constants.items())


def samples(grids: Sequence[Grid]) -> Iterator[dict[str, Any]]:
    """Yield parts of settings in which each option has each of its values at least once."""
    for grid in grids:
        for branch in grid.branches.values():
            yield from (_nested(path, value) for path, values in _values(branch) for value in values)


def _nested(path: KeyPath, value: Any) -> Any:
    return {path[0]: _nested(path[1:], value)} if path else value


def trains_networks(grids: Sequence[Grid]) -> bool:
    """Return whether nnscan's own loop trains any configuration of `grids`; False: users' functions train all."""
    branches = (branch for grid in grids for branch in grid.branches.values())
    return any(("training", "function") not in branch.constants for branch in branches)


def metrics(grids: Sequence[Grid]) -> list[str]:
    """Return the metrics of an epoch: nnscan's own and its task's, or those that a user's training function yields.

    Those of a task come twice: "val_..." of an epoch, and "test_..." of a retraining that was tested.
    """
    told = [_metrics(branch) for grid in grids for branch in grid.branches.values()]
    return list(dict.fromkeys(name for names in told for name in names))


def _metrics(branch: Branch) -> list[str]:
    of_function = branch.constants.get(("training", "metrics"))
    if of_function is not None:
        return [*of_function, "epoch_seconds"]
    of_task = further_metrics(branch)
    return [*METRICS, *(f"val_{name}" for name in of_task), *(f"test_{name}" for name in of_task)]


def further_metrics(branch: Branch) -> tuple[str, ...]:
    """Return what the task of a branch measures beyond loss and accuracies, without "val_"."""
    options = {"name": "classification", "metrics": ()}  # where the file has something else it is told
    return task_metrics({name: branch.constants.get(("task", name), value) for name, value in options.items()})
