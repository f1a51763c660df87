"""Checks values against the declared options, one at a time: an axis is checked once, not at each point of the grid."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from nnscan.options.tables import SECTIONS, Arguments, Options

KeyPath = tuple[str, ...]
"""Where a value stands in a scan file: ("optimizer", "learning_rate")."""

Names = Mapping[KeyPath, Any]
"""What the file says at the key paths that choose among classes of options (`NAMES`)."""

NAMES: frozenset[KeyPath] = frozenset(
    [
        ("data", "name"),
        ("model", "name"),
        ("optimizer", "name"),
        ("optimizer", "schedule", "name"),
        ("task", "name"),
        ("training", "function"),
        ("validation", "folds"),
    ]
)
"""The key paths whose value, or presence, decides which other options there are."""

BY_PRESENCE: Mapping[KeyPath, KeyPath] = {
    ("training",): ("training", "function"),
    ("validation",): ("validation", "folds"),
}
"""The tables whose second class of options is chosen by the presence of an option; all others have a name."""

_VALUES = ConfigDict(strict=True, allow_inf_nan=False)
_INT64 = range(-(2**63), 2**63)  # what a column of a table can hold
_BOUNDS: Mapping[type, tuple[str, str]] = {
    Ge: ("ge", "at least"),
    Gt: ("gt", "above"),
    Le: ("le", "at most"),
    Lt: ("lt", "below"),
}
_LENGTHS: Mapping[type, tuple[str, str]] = {MinLen: ("min_length", "at least"), MaxLen: ("max_length", "at most")}
_LARGE = 2**31 - 1  # a bound that large needs no telling
_PLAIN_TYPES = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}

Found = tuple[tuple[int, ...], str]
"""Something wrong in a list of values: the indices that lead to it, and what it is."""


@dataclass(frozen=True)
class Option:
    """One declared option: its place, its type, its default."""

    path: KeyPath
    field: FieldInfo
    adapter: TypeAdapter[list[Any]]
    """Of a list of values of the option's type."""

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.field.is_required()

    @property
    def default(self) -> Any:
        """Its default; only where it is not required."""
        return self.field.get_default()

    @property
    def accepted(self) -> str:
        """What it takes, in words."""
        return accepted(_type_of(self.field))

    def check(self, values: Sequence[Any]) -> tuple[list[Any], list[Found]]:
        """Return `values` in the declared type; or nothing and, for each value that does not fit, what is wrong."""
        try:
            return self.adapter.validate_python(list(values)), []
        except ValidationError as error:
            first = {details["loc"][0]: details for details in reversed(error.errors(include_url=False))}
            return [], [(_indices(details), self._told(details)) for details in reversed(first.values())]

    def _told(self, details: ErrorDetails) -> str:
        if details["type"] == "value_error":  # raised by nnscan.options.tables, which tells all
            return f"{details['ctx']['error']}."
        value = details["input"]
        return f"found {show(value)}; accepted: {self.accepted}.{nearest(value, literals(_type_of(self.field)))}"


def _indices(details: ErrorDetails) -> tuple[int, ...]:
    return tuple(part for part in details["loc"] if isinstance(part, int))


def _type_of(field: FieldInfo) -> Any:
    """Return the annotated type of a field, without its default."""
    description = [FieldInfo(description=field.description)] if field.description else []
    annotations = [*field.metadata, *description]
    return Annotated[(field.annotation, *annotations)] if annotations else field.annotation


def options_of(table: KeyPath, parts: Sequence[type[Options]], names: Names) -> Iterator[Option]:
    """Return the options of `table`, those of the tables in it included, as `names` choose among `parts`.

    Nothing of a table whose name chooses none.
    """
    part = chosen(table, parts, names)
    for name, field, inner, adapter in _fields(part) if part else ():
        if inner:
            yield from options_of((*table, name), inner, names)
        elif field.annotation != Arguments:
            yield Option((*table, name), field, adapter)


def tables_in(table: KeyPath, part: type[Options]) -> Iterator[tuple[KeyPath, tuple[type[Options], ...]]]:
    """Return the tables that stand in `table`, each with the classes of options that its name chooses among."""
    return (((*table, name), inner) for name, _, inner, _ in _fields(part) if inner)


def chosen(table: KeyPath, parts: Sequence[type[Options]], names: Names) -> type[Options] | None:
    """Return the class of options that the name of `table` chooses among `parts`; None where it names none of them."""
    if len(parts) == 1:
        return parts[0]
    if table in BY_PRESENCE:
        return parts[BY_PRESENCE[table] in names]
    name = names.get((*table, "name"), _default_name(parts))
    return next((part for part in parts if _fits(part, name)), None)


def unknown_name(table: KeyPath, parts: Sequence[type[Options]], names: Names) -> str:
    """Return what to say of a name that chooses none of `parts`, or is missing."""
    taken = ", ".join(accepted(_type_of(part.model_fields["name"])) for part in parts)
    if (*table, "name") not in names:
        return f"missing; accepted: {taken}."
    name = names[(*table, "name")]
    known = [literal for part in parts for literal in literals(_type_of(part.model_fields["name"]))]
    return f"found {show(name)}; accepted: {taken}.{nearest(name, known)}"


def _default_name(parts: Sequence[type[Options]]) -> Any:
    return next((part.model_fields["name"].get_default() for part in parts if _has_default_name(part)), None)


def _has_default_name(part: type[Options]) -> bool:
    return not part.model_fields["name"].is_required()


def _fits(part: type[Options], name: Any) -> bool:
    adapter = next(adapter for field, _, _, adapter in _fields(part) if field == "name")
    try:
        return bool(adapter.validate_python([name]))
    except ValidationError:
        return False


@cache
def _fields(
    part: type[Options],
) -> tuple[tuple[str, FieldInfo, tuple[type[Options], ...], TypeAdapter[list[Any]]], ...]:
    """Return name, field, the classes it may hold where it is a table, and the adapter of each field."""
    return tuple(
        (name, field, _inner(field.annotation), TypeAdapter(list[_type_of(field)], config=_values(field)))  # type: ignore[arg-type, misc]
        for name, field in part.model_fields.items()
    )


def _values(field: FieldInfo) -> ConfigDict | None:
    return None if _inner(field.annotation) else _VALUES  # a table brings its own


def _inner(annotation: Any) -> tuple[type[Options], ...]:
    """Return the classes of options that `annotation` allows; none where it is no table."""
    members = get_args(annotation) or (annotation,)
    return tuple(member for member in members if isinstance(member, type) and issubclass(member, Options))


@cache
def list_options() -> Mapping[KeyPath, int]:
    """Return the key paths of the options whose value is itself a list, each with how deep lists nest in it."""
    found = [option for section in SECTIONS for option in _all_options((section,), SECTIONS[section])]
    depths = {option.path: _depth(option.field.annotation) for option in found}
    return {path: depth for path, depth in depths.items() if depth}


def _depth(kind: Any) -> int:
    """Return how deep lists nest in a type: 1 of list[int]."""
    base, _ = _unwrapped(kind)
    return 1 + _depth(get_args(base)[0]) if get_origin(base) is list else 0


def _all_options(table: KeyPath, parts: Sequence[type[Options]]) -> Iterator[Option]:
    for part in parts:
        for name, field, inner, adapter in _fields(part):
            yield Option((*table, name), field, adapter)
            yield from _all_options((*table, name), inner)


def accepted(kind: Any) -> str:
    """Return what a type takes, in words for the user."""
    base, metadata = _unwrapped(kind)
    described = [data.description for data in metadata if isinstance(data, FieldInfo) and data.description]
    if described:
        return str(described[0])
    if get_origin(base) is Literal:
        return ", ".join(show(value) for value in get_args(base))
    if get_origin(base) is list:
        of_length = f"a list of {_limits(metadata, _LENGTHS)} values".replace("  ", " ")
        return f"{of_length}, each {accepted(get_args(base)[0])}"
    return f"{_PLAIN_TYPES[base]} {_limits(metadata, _BOUNDS)}".rstrip()


def _unwrapped(kind: Any) -> tuple[Any, list[Any]]:
    """Return a type without `Annotated`, and all that annotates it, what stands in a `Field` included."""
    if get_origin(kind) is not Annotated:
        return kind, []
    base, *metadata = get_args(kind)
    inner, more = _unwrapped(base)
    held = [one for data in metadata if isinstance(data, FieldInfo) for one in data.metadata]
    return inner, [*more, *metadata, *held]


def _limits(metadata: Iterable[Any], words: Mapping[type, tuple[str, str]]) -> str:
    """Return the limits among `metadata` in words: "at least 0 and below 1"."""
    found = [(*words[type(data)], data) for data in metadata if type(data) in words]
    limits = [(word, getattr(data, field)) for field, word, data in found]
    return " and ".join(f"{word} {limit:g}" for word, limit in limits if limit < _LARGE)


def literals(kind: Any) -> list[str]:
    """Return the strings that a type takes where it takes no others."""
    base, _ = _unwrapped(kind)
    return [value for value in get_args(base) if isinstance(value, str)] if get_origin(base) is Literal else []


def nearest(name: Any, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" where `name` is like one of `known`, else nothing."""
    found = get_close_matches(name, list(known), n=1) if isinstance(name, str) else []
    return f" Did you mean {show(found[0])}?" if found else ""


def show(value: Any) -> str:
    """Return a value about as TOML writes it, cut where it is long."""
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = "a huge number"
    return text if len(text) <= 80 else f"{text[:77]}..."


def argument_problem(value: Any) -> str:
    """Return what is wrong with an argument of a user's function; "" where it is a value that JSON and a table take."""
    if isinstance(value, dict):
        return next(filter(None, map(argument_problem, value.values())), "")
    if isinstance(value, list):
        return next(filter(None, map(argument_problem, value)), "")
    if isinstance(value, float) and not math.isfinite(value):
        return f"found {show(value)}; accepted: a finite number."
    if isinstance(value, int) and value not in _INT64:
        return f"found {show(value)}; accepted: whole numbers of 64 bits."
    if not isinstance(value, str | int | float):
        return f"found {show(value)} ({type(value).__name__}); accepted: numbers, strings, true, false, lists of these."
    return ""
