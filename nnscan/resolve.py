"""From leaves to grids: names choose the options there are, values take their declared types, defaults come in.

Problems are gathered, not raised, so that a user reads them all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from nnscan.dotted import Signature, load_function, signature_of
from nnscan.errors import Problem, ScanError
from nnscan.grid import Axis, Branch, Grid
from nnscan.identity import canonical_json
from nnscan.leaves import GridTable, Leaf, Leaves, dotted, key_path, merge
from nnscan.options.declared import (
    BY_PRESENCE,
    NAMES,
    KeyPath,
    Option,
    argument_problem,
    chosen,
    list_options,
    nearest,
    options_of,
    show,
    tables_in,
    unknown_name,
)
from nnscan.options.rules import RULES, Rule
from nnscan.options.tables import SECTIONS, DataFunction, ModelFunction, Options, TaskFunction, TrainingFunction

FUNCTION = ("training", "function")

NAMED_BY: Mapping[type[Options], KeyPath] = {
    DataFunction: ("data", "name"),
    ModelFunction: ("model", "name"),
    TaskFunction: ("task", "name"),
    TrainingFunction: FUNCTION,
}
"""Where the dotted path stands, of the tables with `arguments`."""

PASSED: Mapping[str, frozenset[str]] = {
    "data": frozenset(["root", "seed"]),
    "model": frozenset(["input_shape", "classes", "seed"]),
    "task": frozenset(["classes"]),
    "training": frozenset(["seed", "fold", "folds", "replicate", "epochs", "device", "data_root"]),
}
"""Arguments of a user's function that nnscan passes, where the signature names them; a scan file cannot."""

Group = tuple[Leaf, ...]
"""Axes that vary together."""


def resolve_grid(
    base: Leaves, table: GridTable, constants: Mapping[KeyPath, Any], rules: Sequence[Rule] = RULES
) -> tuple[Grid, list[Problem]]:
    """Return the grid that `table` spans over `base`, and all that is wrong in it.

    Parameters
    ----------
    base
        What the scan file says for all families.
    constants
        Further settings of every configuration, checked: those of `validation`.
    rules
        What options must fulfil together.
    """
    axes = [leaf for leaf in table.leaves.values() if leaf.is_axis]
    problems = [Problem(axis.where, "is empty: give it a value.") for axis in axes if not axis.value]
    groups, found = _groups([axis for axis in axes if axis.value], table)
    naming = tuple(index for index, group in enumerate(groups) if any(axis.path in NAMES for axis in group))
    branches = {}
    for choice in product(*(range(len(groups[index][0].value)) for index in naming)):
        picked = [_at(axis, i) for i, index in zip(choice, naming, strict=True) for axis in groups[index]]
        resolution = Resolution(base, merge(merge(base, table.leaves), _index(picked)), str(table.family))
        branches[choice] = resolution.branch(groups, constants, rules)
        found += resolution.problems
    for index in naming:
        found += _repeats(groups[index], [list(axis.value) for axis in groups[index]])
    grid = Grid(str(table.family), tuple(tuple(map(_axis, group)) for group in groups), naming, branches)
    return grid, problems + found


def _at(axis: Leaf, index: int) -> Leaf:
    return Leaf(axis.path, axis.value[index], f"{axis.where}[{index}]")


def _index(leaves: Sequence[Leaf]) -> Leaves:
    return {leaf.path: leaf for leaf in leaves}


def _axis(leaf: Leaf) -> Axis:
    return Axis(leaf.path, tuple(leaf.value))


# ------------------------------------------------------------------------------------------------ axes


def _groups(axes: Sequence[Leaf], table: GridTable) -> tuple[list[Group], list[Problem]]:
    """Return the axes in groups that vary together, in file order of their first members."""
    group_of: dict[KeyPath, Group] = {axis.path: (axis,) for axis in axes}
    zips, problems = _zips(table)
    for where, names in zips:
        members, found = _members(where, names, group_of)
        problems += found
        if not found:
            group_of.update((axis.path, members) for axis in members)
    return list(dict.fromkeys(group_of[axis.path] for axis in axes)), problems


def _zips(table: GridTable) -> tuple[list[tuple[str, list[str]]], list[Problem]]:
    """Return each list of names in `zip`, with its place."""
    where = f"{table.where}.zip"
    zipped = [table.zipped] if _is_names(table.zipped) else table.zipped
    if not isinstance(zipped, list) or not all(map(_is_names, zipped)):
        accepted = '[["optimizer.learning_rate", "training.batch_size"]], a list for each group of two or more axes'
        return [], [Problem(where, f"found {show(table.zipped)}; accepted: {accepted}.")]
    return [(f"{where}[{index}]", names) for index, names in enumerate(zipped)], []


def _is_names(names: Any) -> bool:
    return isinstance(names, list) and len(names) > 1 and all(isinstance(name, str) for name in names)


def _members(where: str, names: Sequence[str], group_of: Mapping[KeyPath, Group]) -> tuple[Group, list[Problem]]:
    """Return the axes that `names` couples."""
    problems = [Problem(where, message) for name in names if (message := _uncoupled(name, names, group_of))]
    if problems:
        return (), list(dict.fromkeys(problems))
    members = tuple(group_of[path][0] for name in names if (path := key_path(name)))
    if len({len(axis.value) for axis in members}) > 1:
        lengths = ", ".join(f"{dotted(axis.path)} has {len(axis.value)}" for axis in members)
        problems = [Problem(where, f"axes with equally many values vary together; {lengths}.")]
    return members, problems


def _uncoupled(name: str, names: Sequence[str], group_of: Mapping[KeyPath, Group]) -> str:
    """Return why `name` cannot be coupled with the other `names`; "" where it can."""
    path = key_path(name)
    if path is None or path not in group_of:
        known = [dotted(axis) for axis in group_of]
        return f"{show(name)} is no axis of this grid table.{nearest(name, known)} Its axes: {', '.join(known)}."
    if len(group_of[path]) > 1 or [key_path(other) for other in names].count(path) > 1:
        return f"{show(name)} stands in zip twice; an axis varies with one group."
    return ""


def _repeats(group: Group, values: Sequence[Sequence[Any]]) -> Iterator[Problem]:
    """Yield the points of a group that are there before: by a slip, as a rule."""
    first: dict[tuple[str, ...], int] = {}
    for index, point in enumerate(zip(*values, strict=True)):
        before = first.setdefault(tuple(map(_comparable, point)), index)
        if before != index:
            message = f"{show(group[0].value[index])} stands at [{before}] already: leave one out."
            yield Problem(f"{group[0].where}[{index}]", message)


def _comparable(value: Any) -> str:
    """Return a text that is the same for equal values; of the few that have no JSON text, what the user reads."""
    try:
        return canonical_json(value)
    except (TypeError, ValueError):
        return show(value)


# ------------------------------------------------------------------------------------------------ tables


class Resolution:
    """Resolves the tables of one family, for one choice of names: which options there are, what their values become."""

    def __init__(self, base: Leaves, leaves: Leaves, family: str) -> None:
        self.leaves = leaves
        # Wrong values are told also where a grid table replaces them: the file is checked whole.
        self.replaced = [leaf for path, leaf in base.items() if path in leaves and leaves[path] is not leaf]
        self.family = family
        self.names = {path: leaf.value for path, leaf in leaves.items() if path in NAMES}
        self.constants: dict[KeyPath, Any] = {}
        self.axes: dict[KeyPath, list[Any]] = {}
        self.problems: list[Problem] = []

    def branch(self, groups: Sequence[Group], constants: Mapping[KeyPath, Any], rules: Sequence[Rule]) -> Branch:
        """Return the points that these names leave open; `constants` are further settings of each."""
        for section, parts in SECTIONS.items():
            if FUNCTION in self.names and section != "training":
                self._refuse(section)
            else:
                self.resolve((section,), parts)
        position = {axis.path: index for index, group in enumerate(groups) for axis in group}
        for rule in rules:
            self._apply(rule, position)
        for group in groups:
            if all(axis.path in self.axes for axis in group):
                self.problems += _repeats(group, [self.axes[axis.path] for axis in group])
        axes = {path: (position[path], tuple(values)) for path, values in self.axes.items() if path in position}
        return Branch({**self.constants, **constants}, axes)

    def _refuse(self, section: str) -> None:
        message = "does not go with training.function, which brings data, model and optimizer: leave it out."
        self.problems += [Problem(leaf.where, message) for leaf in self._below((section,))]
        self.constants[section,] = {}

    def _below(self, table: KeyPath) -> list[Leaf]:
        return [leaf for leaf in (*self.leaves.values(), *self.replaced) if leaf.path[: len(table)] == table]

    def resolve(self, table: KeyPath, parts: Sequence[type[Options]]) -> None:
        """Take the values of `table`, whose name chooses among `parts`, and fill in the defaults."""
        part = self._choose(table, parts)
        if part is None:
            return
        tables = dict(tables_in(table, part))
        blind = [inner for inner, members in tables.items() if self._choose(inner, members) is None]
        options = {option.path: option for option in options_of(table, (part,), self.names)}
        for leaf in self._below(table):
            if not any(leaf.path[: len(inner)] == inner for inner in blind):
                self._take(leaf, options, [*tables, *([(*table, "arguments")] if part in NAMED_BY else [])])
        for option in options.values():
            if option.path not in self.leaves:
                self._fill(option)
        if part in NAMED_BY:
            self._call(table, self.leaves[NAMED_BY[part]])

    def _choose(self, table: KeyPath, parts: Sequence[type[Options]]) -> type[Options] | None:
        """Return the class that the name of `table` chooses; a name that chooses none is a problem."""
        path = (*table, "name")
        for leaf in self.replaced:
            if leaf.path == path and chosen(table, parts, {path: leaf.value}) is None:
                self._problem(leaf.where, unknown_name(table, parts, {path: leaf.value}))
        part = chosen(table, parts, self.names)
        if part is None:
            where = self.leaves[path].where if path in self.leaves else dotted(path)
            self._problem(where, unknown_name(table, parts, self.names))
        return part

    def _problem(self, where: str, message: str) -> None:
        self.problems.append(Problem(where, message))

    # -------------------------------------------------------------------------------------------- values

    def _take(self, leaf: Leaf, options: Mapping[KeyPath, Option], tables: Sequence[KeyPath]) -> None:
        """Take a value for the option it is meant for."""
        option = options.get(leaf.path)
        if option is not None:
            self._check(leaf, option)
        elif leaf.path in tables:
            if leaf.value != {}:
                self._problem(leaf.where, f"found {show(leaf.value)}; accepted: a table.")
        elif any(leaf.path[: len(table)] == table and table[-1] == "arguments" for table in tables):
            self._check_argument(leaf)
        else:
            self._problem(leaf.where, self._unknown(leaf, options, tables))

    def _check(self, leaf: Leaf, option: Option) -> None:
        replaced = self.leaves.get(leaf.path) is not leaf
        if replaced and leaf.path in NAMES:
            return  # a name that another replaces chooses other options; _choose looks at it
        values, found = option.check(leaf.value if leaf.is_axis else [leaf.value])
        for indices, message in found:
            where = leaf.where + "".join(f"[{index}]" for index in indices[not leaf.is_axis :])
            self._problem(where, message + _hint(leaf))
        if not found and not replaced:
            self._keep(leaf, values)

    def _check_argument(self, leaf: Leaf) -> None:
        values = leaf.value if leaf.is_axis else [leaf.value]
        wrong = [(index, message) for index, value in enumerate(values) if (message := argument_problem(value))]
        for index, message in wrong:
            self._problem(f"{leaf.where}[{index}]" if leaf.is_axis else leaf.where, message)
        if not wrong and self.leaves.get(leaf.path) is leaf:
            self._keep(leaf, values)

    def _keep(self, leaf: Leaf, values: list[Any]) -> None:
        if leaf.is_axis:
            self.axes[leaf.path] = values
        else:
            self.constants[leaf.path] = values[0]

    def _fill(self, option: Option) -> None:
        if option.required:
            of_family = f" (family {show(self.family)})" if self.family else ""
            self._problem(dotted(option.path), f"missing{of_family}; accepted: {option.accepted}.")
        else:
            self.constants[option.path] = option.default

    def _unknown(self, leaf: Leaf, options: Mapping[KeyPath, Option], tables: Sequence[KeyPath]) -> str:
        """Return what to say of a key path that no option has."""
        above = next((option for path, option in options.items() if leaf.path[: len(path)] == path), None)
        if above is not None:
            return f"{dotted(above.path)} is no table; accepted: {above.accepted}."
        arguments = [path for path in tables if path[-1] == "arguments"]
        presence = [path for table, path in BY_PRESENCE.items() if table == leaf.path[:1]]
        known = list(dict.fromkeys(dotted(path[1:]) for path in (*options, *arguments, *presence)))
        key, section = dotted(leaf.path[1:]), leaf.path[0]
        return f"{self._owner(section)} does not take {key!r}.{nearest(key, known)} It takes: {', '.join(known)}."

    def _owner(self, section: str) -> str:
        """Return whose options those of `section` are: the model "cnn", say."""
        name = self.names.get(FUNCTION if section == "training" else (section, "name"))
        return f"{section} {show(name)}" if name else f"[{section}]"

    # -------------------------------------------------------------------------------------------- functions

    def _call(self, table: KeyPath, name: Leaf) -> None:
        """Check the arguments of a user's function against its signature, and fill in its defaults."""
        if name.path not in self.constants:
            return  # no dotted path: told already
        try:
            signature = signature_of(load_function(name.value))
        except ScanError as error:
            self._problem(name.where, f"{show(name.value)} {error.problems[0].message}")
            return
        place = (*table, "arguments")
        given = {leaf.path[2]: leaf for path, leaf in self.leaves.items() if path[:2] == place and len(path) > 2}
        for argument, leaf in given.items():
            self._check_name(argument, leaf, name.value, signature)
        self._check_required(place, set(given), name.value, signature)
        self._fill_arguments(place, set(given), signature)

    def _check_name(self, argument: str, leaf: Leaf, function: str, signature: Signature) -> None:
        passed = PASSED[leaf.path[0]]
        if argument in passed:
            self._problem(leaf.where, f"{argument!r} is nnscan's to pass, where the signature names it: leave it out.")
        elif argument not in signature.names and not signature.takes_any:
            known = [name for name in signature.names if name not in passed]
            takes = f"It takes: {', '.join(known)}." if known else "It takes none."
            message = f"{show(function)} does not take {argument!r}.{nearest(argument, known)} {takes}"
            self._problem(leaf.where, message)

    def _check_required(self, place: KeyPath, given: set[str], function: str, signature: Signature) -> None:
        for argument in signature.required:
            if argument not in given | PASSED[place[0]]:
                self._problem(dotted((*place, argument)), f"missing; {show(function)} has no default for it.")

    def _fill_arguments(self, place: KeyPath, given: set[str], signature: Signature) -> None:
        # Defaults that are no JSON values (None, a class) stay out of the key; the code's fingerprint covers them.
        for argument, default in signature.defaults.items():
            if argument not in given | PASSED[place[0]] and not argument_problem(default) and default != {}:
                self.constants[*place, argument] = default
        if not any(path[:2] == place for path in (*self.constants, *self.axes)):
            self.constants[place] = {}

    # -------------------------------------------------------------------------------------------- rules

    def _apply(self, rule: Rule, position: Mapping[KeyPath, int]) -> None:
        """Apply a rule to each combination of the values it reads."""
        if not all(path in self.constants or path in self.axes for path in rule.options):
            return
        groups = {position[path]: len(self.axes[path]) for path in rule.options if path in self.axes}
        for point in product(*map(range, groups.values())):
            at = dict(zip(groups, point, strict=True))
            message = rule.broken(*[self._value(path, position, at) for path in rule.options])
            if message:
                self._problem(self._place(rule.options[0], position, at), message)

    def _value(self, path: KeyPath, position: Mapping[KeyPath, int], at: Mapping[int, int]) -> Any:
        return self.axes[path][at[position[path]]] if path in self.axes else self.constants[path]

    def _place(self, path: KeyPath, position: Mapping[KeyPath, int], at: Mapping[int, int]) -> str:
        where = self.leaves[path].where if path in self.leaves else dotted(path)
        return f"{where}[{at[position[path]]}]" if path in self.axes else where


def _hint(leaf: Leaf) -> str:
    """Return what to do with a list where one value belongs."""
    if leaf.is_axis or not isinstance(leaf.value, list) or leaf.path in list_options():
        return ""
    return " A list of values is an axis: write it in a [[grid]] table, or give it with --grid."
