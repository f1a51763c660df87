"""The text of a scan file as leaves: a value, its key path, where it came from. `--set` and `--grid` act on these."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnscan import toml
from nnscan.errors import Problem
from nnscan.options.declared import KeyPath, list_options, nearest, show
from nnscan.options.tables import SECTIONS

DEPTH = 32
"""Deepest nesting of tables and lists; what the interpreter's stack takes is far more."""

WHOLE_SCAN = {
    "validation": "configurations are compared on the same folds",
    "selection": "all families are ranked by one metric",
    "resources": "it decides where and how fast, never what comes out",
    "name": "a grid table has a family, the scan a name",
}
"""Tables and keys that hold for the whole scan, each with the reason."""

TABLES = ("name", *SECTIONS, "validation", "selection", "resources", "grid")
"""What may stand at the top of a scan file."""

DATA_ROOT = ("data", "root")


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A value of the scan file. Two leaves are equal where they are the same one: a value may be a list, or NaN."""

    path: KeyPath
    """Within the scan: ("optimizer", "learning_rate"), also where it stands in a grid table."""

    value: Any
    """As TOML has it; of an axis, the list of its values."""

    where: str
    """For the user: `grid[0].optimizer.learning_rate`, `--set training.epochs`."""

    is_axis: bool = False


Leaves = dict[KeyPath, Leaf]


@dataclass(frozen=True)
class GridTable:
    """A `[[grid]]` table as it was written."""

    where: str
    """For the user: `grid[0]`."""

    family: Any
    """As TOML has it; None where it is missing."""

    zipped: Any
    """The value of `zip`, as TOML has it."""

    leaves: Leaves = field(default_factory=dict)


@dataclass(frozen=True)
class Document:
    """A scan file: what holds for all of it, and its grid tables."""

    base: Leaves
    grids: list[GridTable]


def dotted(path: KeyPath) -> str:
    """Return a key path as the user writes it."""
    return toml.key(path)


def parse(text: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the tables of a TOML text; or nothing, and why it cannot be read."""
    try:
        text.encode()  # undecodable bytes of a command line become what no file can hold
        tables = tomllib.loads(text)
    except RecursionError:
        return {}, [Problem("syntax", f"lists or tables are nested deeper than {DEPTH} levels.")]
    except ValueError as error:  # besides syntax errors: whole numbers of more than 4,300 digits
        return {}, [Problem(*_place_of(str(error)))]
    deep = _too_deep(tables)
    return ({}, [Problem(deep, f"is nested deeper than {DEPTH} levels.")]) if deep else (tables, [])


def _place_of(message: str) -> tuple[str, str]:
    """Return line and message of a syntax error of tomllib's."""
    found = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", message, re.DOTALL)
    return (found[2], f"not TOML: {found[1]}.") if found else ("syntax", f"not TOML: {message}.")


def _too_deep(tables: Mapping[str, Any]) -> str:
    """Return the top-level key below which the nesting is too deep, if any; without recursion, to be safe from it."""
    level: list[tuple[str, Any]] = list(tables.items())
    for _ in range(DEPTH):
        level = [(key, inner) for key, value in level for inner in _contents(value)]
    return level[0][0] if level else ""


def _contents(value: Any) -> Sequence[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else ()


def read_document(tables: Mapping[str, Any]) -> tuple[Document, list[Problem]]:
    """Return the leaves of a scan file, and the problems of its outline: unknown tables, tables out of place."""
    problems = list(_misplaced(tables, "", TABLES))
    base = _index(_leaves(_proper(tables, TABLES), "", in_grid=False))
    if "name" in tables:
        base["name",] = Leaf(("name",), tables["name"], "name")
    grids = tables.get("grid", [])
    if not isinstance(grids, list) or not all(isinstance(table, dict) for table in grids):
        problems.append(
            Problem("grid", f"found {show(grids)}; accepted: tables. Write [[grid]], once for each family.")
        )
        grids = []
    read = [_read_grid(f"grid[{index}]", table) for index, table in enumerate(grids)]
    problems += [problem for _, found in read for problem in found]
    return Document(base, [table for table, _ in read]), problems


def _proper(tables: Mapping[str, Any], accepted: Sequence[str]) -> dict[str, Any]:
    """Return the known tables that are tables."""
    return {name: value for name, value in tables.items() if name in accepted and isinstance(value, dict)}


def _read_grid(where: str, table: Mapping[str, Any]) -> tuple[GridTable, list[Problem]]:
    accepted = ("family", "zip", *SECTIONS)
    problems = list(_misplaced(table, f"{where}.", accepted))
    leaves = _index(_leaves(_proper(table, tuple(SECTIONS)), f"{where}.", in_grid=True))
    if root := leaves.pop(DATA_ROOT, None):
        problems.append(_refused_root(root.where))
    return GridTable(where, table.get("family"), table.get("zip", []), leaves), problems


def _refused_root(where: str) -> Problem:
    return Problem(where, "says where data lie, not what is trained: write root in [data], or give --data-root.")


def _misplaced(tables: Mapping[str, Any], where: str, accepted: Sequence[str]) -> Iterator[Problem]:
    for name, value in tables.items():
        if name in SECTIONS or (name in accepted and name in WHOLE_SCAN and name != "name"):
            if not isinstance(value, dict):
                yield Problem(f"{where}{name}", f"found {show(value)}; accepted: a table. Write [{name}].")
        elif name not in accepted:
            yield Problem(f"{where}{dotted((name,))}", _unknown_table(name, accepted))


def _unknown_table(name: str, accepted: Sequence[str]) -> str:
    if name in WHOLE_SCAN:
        return f"holds for the whole scan ({WHOLE_SCAN[name]}): write it above the grid tables."
    if name in ("family", "zip"):
        return "belongs into a [[grid]] table."
    return f"unknown.{nearest(name, accepted)} Known are: {', '.join(accepted)}."


def _index(leaves: Iterator[Leaf]) -> Leaves:
    return {leaf.path: leaf for leaf in leaves}


def _leaves(table: Mapping[str, Any], where: str, *, in_grid: bool, path: KeyPath = ()) -> Iterator[Leaf]:
    for name, value in table.items():
        inner = (*path, name)
        if isinstance(value, dict) and (value or len(inner) == 1):
            yield from _leaves(value, where, in_grid=in_grid, path=inner)
        else:
            yield Leaf(inner, value, where + dotted(inner), is_axis=in_grid and _is_axis(inner, value))


def _is_axis(path: KeyPath, value: Any) -> bool:
    """Return whether a value in a grid table is a list of values.

    Of an option that is itself a list (`model.channels`) a list of lists is, and [32, 64] is one value.
    """
    depth = list_options().get(path, 0)
    return _nests(value, depth + 1) and (bool(value) or not depth)


def _nests(value: Any, depth: int) -> bool:
    """Return whether `value` is a list of lists of ..., `depth` levels of them."""
    return not depth or (isinstance(value, list) and all(_nests(one, depth - 1) for one in value))


def put(leaves: Leaves, leaf: Leaf) -> None:
    """Set a leaf, in the place of one with the same path, of those below it, and of those that it lies below."""
    for path in [path for path in leaves if path != leaf.path and _nested(path, leaf.path)]:
        del leaves[path]
    leaves[leaf.path] = leaf


def _nested(one: KeyPath, other: KeyPath) -> bool:
    shared = min(len(one), len(other))
    return one[:shared] == other[:shared]


def merge(base: Leaves, over: Leaves) -> Leaves:
    """Return the leaves of `base` with those of `over` in their place."""
    merged = dict(base)
    for leaf in over.values():
        put(merged, leaf)
    return merged


def apply_overrides(document: Document, overrides: Sequence[str]) -> list[Problem]:
    """Apply each `KEY=VALUE` or `FAMILY:KEY=VALUE` of `--set` in place; return what is wrong with them.

    A value goes to where the scan file holds it for all, and to each grid table that sets it; with a family, to the
    grid tables of that family alone.
    """
    return [problem for text in overrides for problem in _override(document, text)]


def _override(document: Document, text: str) -> Iterator[Problem]:
    family, key, content = _split(text)
    where = f"--set {key or text}"
    tables = _assignment(key, content)
    if tables is None or (not family and "grid" in tables):
        yield Problem(
            f"--set {text}", "accepted: KEY=VALUE, such as training.epochs=3; FAMILY:KEY=VALUE for one family."
        )
        return
    grids = _of_family(document.grids, family)
    yield from _misplaced_override(where, tables, family, bool(grids))
    for leaf in _leaves(tables, "", in_grid=False):
        if not family:
            put(document.base, Leaf(leaf.path, leaf.value, where))
        for grid in grids:
            if leaf.path[0] in SECTIONS and (family or leaf.path in grid.leaves):
                put(grid.leaves, Leaf(leaf.path, leaf.value, where, is_axis=_is_axis(leaf.path, leaf.value)))


def apply_axes(document: Document, axes: Sequence[str]) -> list[Problem]:
    """Apply each `KEY=A,B,C` or `FAMILY:KEY=A,B,C` of `--grid` in place: an axis of every grid table, or of a family's.

    Returns what is wrong with them.
    """
    return [problem for text in axes for problem in _axis(document, text)]


def _axis(document: Document, text: str) -> Iterator[Problem]:
    family, key, content = _split(text)
    where = f"--grid {key or text}"
    path = key_path(key)
    if path is None or content is None:
        yield Problem(f"--grid {text}", "accepted: KEY=A,B,C, such as optimizer.learning_rate=0.1,0.01.")
        return
    grids = _of_family(document.grids, family)
    yield from _misplaced_override(where, {path[0]: {}}, family or "*", bool(grids))
    if path == DATA_ROOT:
        yield _refused_root(where)
    for grid in grids if path[0] in SECTIONS and path != DATA_ROOT else ():
        put(grid.leaves, Leaf(path, _values(content), where, is_axis=True))


def _misplaced_override(where: str, tables: Mapping[str, Any], family: str, found: bool) -> Iterator[Problem]:
    """Yield what is wrong with the table, or with the family, that an option of the command names."""
    accepted = tuple(SECTIONS) if family else tuple(name for name in TABLES if name != "grid")
    yield from (Problem(where, problem.message) for problem in _misplaced(tables, "", accepted))
    if family and not found:
        yield Problem(where, f"no grid table has the family {show(family)}.")


def _of_family(grids: Sequence[GridTable], family: str) -> list[GridTable]:
    return [grid for grid in grids if family in ("", grid.family)]


def _split(text: str) -> tuple[str, str, str | None]:
    """Return family ("" for all), key and value (None without a "=") of a `--set` or `--grid`."""
    target, equals, content = text.partition("=")
    family, _, key = target.strip().rpartition(":")
    return family, key, content.strip() if equals else None


def key_path(key: str) -> KeyPath | None:
    """Return the parts of a dotted TOML key; None where it is none."""
    tables = _assignment(key, "0")
    path: KeyPath = ()
    while isinstance(tables, dict):
        (name, tables), *others = tables.items()
        if others:
            return None
        path = (*path, name)
    return path or None


def _assignment(key: str, content: str | None) -> dict[str, Any] | None:
    """Return the tables that `key = content` writes; a content that is no TOML value is a string."""
    if content is None or "\n" in key:
        return None
    for value in (content, toml.value(content)):
        tables, problems = parse(f"{key} = {value}")
        if not problems and len(tables) == 1 and key.strip():
            return tables
    return None


def _values(content: str) -> list[Any]:
    """Return the values of "a,b,c": TOML values; what is no TOML value is a string."""
    tables, problems = parse(f"values = [{content}]")
    if not problems and len(tables) == 1:
        return list(tables["values"])
    return [_value(part.strip()) for part in content.split(",")]


def _value(text: str) -> Any:
    tables = _assignment("value", text)
    return text if tables is None else tables["value"]
