"""The columns of the tables: fixed ones, the metrics of an epoch, and one typed column a hyperparameter.

All parts of a table have one schema, the one in `schema.json` of the scan folder: Arrow takes the first file's, so a
column that only a later part has would vanish unsaid. A launch that brings new columns rewrites the old parts.

A hyperparameter's column has the type of its values. Where these are of several types (arguments of a user's function),
or nested, the column holds text: a string as itself, anything else as JSON; a string that reads as JSON stands quoted,
so that 3 and "3" stay two values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nnscan.errors import StoreError
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.results.metric import METRICS, PER_CLASS
from nnscan.trial import Settings

FORMAT = 1
"""Of `schema.json` and the tables; raised when an older nnscan could not read them."""


def _list_of(type_: pa.DataType) -> pa.DataType:
    return pa.list_(pa.field("element", type_))  # as Parquet calls it: so a column read back has the same type


TYPES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "double": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "list<bool>": _list_of(pa.bool_()),
    "list<int64>": _list_of(pa.int64()),
    "list<double>": _list_of(pa.float64()),
    "list<string>": _list_of(pa.string()),
}
"""Every type a column can have, under the name that `schema.json` has for it."""

NAMES = {type_: name for name, type_ in TYPES.items()}


def _columns(**names: str) -> dict[str, pa.DataType]:
    """Return columns by name; an argument is a type's name with the columns of that type, in their order."""
    return {column: TYPES[type_] for type_, columns in names.items() for column in columns.split()}


TRIALS = {
    **_columns(string="trial configuration family kind"),
    **_columns(int32="fold replicate epochs"),
    **_columns(string="status failure error traceback"),
    **_columns(int32="attempt"),
    **_columns(string="metric", double="score", int32="best_epoch epochs_run", int64="parameters"),
    **_columns(double="seconds", timestamp="started ended"),
    **_columns(string="host device", int32="pid threads processes fused"),
    **_columns(string="bundle writer launch nnscan_version torch_version python_version"),
    **_columns(int32="numerics"),
    **_columns(string="data_fingerprint code_fingerprint"),
    **_columns(double="test_loss test_accuracy"),
    "test_class_accuracy": TYPES["list<double>"],
}
"""Fixed columns of trials/, one row a trial; then come the metrics at its best epoch, then the hyperparameters."""

EPOCHS_FIRST = _columns(string="trial configuration kind", int32="fold replicate epoch")
EPOCHS_LAST = _columns(int32="attempt", string="writer")
"""Fixed columns of epochs/, one row a trial and epoch; the metrics stand between."""

STEPS = _columns(string="trial", int32="epoch", int64="step") | {
    "name": TYPES["string"],
    "value": TYPES["double"],
    **EPOCHS_LAST,
}
"""Columns of steps/, one row a trial, step and name."""


@dataclass(frozen=True)
class Schemas:
    """The schemas of the three tables."""

    trials: pa.Schema
    epochs: pa.Schema
    steps: pa.Schema

    @classmethod
    def of(cls, hyperparameters: Mapping[str, pa.DataType], metrics: Iterable[str] = METRICS) -> Schemas:
        """Return the schemas with these hyperparameters (dotted paths, any order) and metrics (in their order)."""
        measured = {name: TYPES["list<double>" if name in PER_CLASS else "double"] for name in metrics}
        chosen = {path: hyperparameters[path] for path in sorted(hyperparameters)}
        return cls(
            trials=pa.schema({**TRIALS, **measured, **chosen}),
            epochs=pa.schema({**EPOCHS_FIRST, **measured, **EPOCHS_LAST}),
            steps=pa.schema(STEPS),
        )

    @property
    def hyperparameters(self) -> dict[str, pa.DataType]:
        """The columns of trials/ that are hyperparameters: those with a dot."""
        return {field.name: field.type for field in self.trials if "." in field.name}

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of an epoch, in the order of their columns."""
        return tuple(name for name in self.epochs.names if name not in EPOCHS_FIRST | EPOCHS_LAST)

    def to_json(self) -> str:
        """Return the text of `schema.json`: name and type of every column of every table."""
        tables = {name: _to_names(getattr(self, name)) for name in ("trials", "epochs", "steps")}
        return json.dumps({"format": FORMAT, **tables}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Schemas:
        """Return the schemas that `to_json` wrote; ValueError or KeyError where it did not."""
        tables = json.loads(text)
        if tables["format"] > FORMAT:
            raise ValueError(
                f"it has format {tables['format']} of a newer nnscan, this one knows {FORMAT}: upgrade nnscan"
            )
        return cls(**{name: _from_names(tables[name]) for name in ("trials", "epochs", "steps")})


def _to_names(schema: pa.Schema) -> dict[str, str]:
    return {field.name: NAMES[field.type] for field in schema}


def _from_names(columns: Mapping[str, str]) -> pa.Schema:
    return pa.schema({name: TYPES[type_] for name, type_ in columns.items()})


def read_schemas(folder: ScanFolder) -> Schemas | None:
    """Return what `schema.json` says, None where no launch has written it yet; StoreError where it does not read."""
    try:
        return Schemas.from_json(folder.schema.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{folder.schema} does not read: {error}. It names the columns of the tables;"
            " where it is damaged move it away: the next launch writes it anew from the scan file and the parts."
        ) from error


def write_schemas(folder: ScanFolder, schemas: Schemas) -> None:
    """Write `schema.json`, which whoever seals or reads goes by."""
    with told(folder.schema):
        write_atomically(folder.schema, schemas.to_json().encode())


def unify(old: Schemas, new: Schemas) -> Schemas:
    """Return the schemas that hold the columns of both; a hyperparameter of two types becomes text."""
    hyperparameters = {**old.hyperparameters}
    for path, type_ in new.hyperparameters.items():
        hyperparameters[path] = type_ if hyperparameters.get(path, type_) == type_ else pa.string()
    return Schemas.of(hyperparameters, dict.fromkeys(old.metrics + new.metrics))


def told_by(schema: pa.Schema) -> Schemas:
    """Return the schemas of a scan that has the metrics and hyperparameters of a part's `schema`."""
    fixed = TRIALS | EPOCHS_FIRST | STEPS
    free = [field for field in schema if field.name not in fixed]
    hyperparameters = {field.name: field.type for field in free if "." in field.name}
    return Schemas.of(hyperparameters, [field.name for field in free if "." not in field.name])


def leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of nested `settings` under its dotted path; an empty table has none."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


_SCALARS = {bool: "bool", int: "int64", float: "double", str: "string"}


EMPTY = "list<>"
"""Of a list without items, which is of the type of the column's other lists."""


def _type_name(value: Any) -> str:
    """Return the name of the type that a column of such values has; "" of null, "json" of what only text holds."""
    if isinstance(value, list | tuple):
        names = {_type_name(item) for item in value}
        return EMPTY if not names else f"list<{names.pop()}>" if len(names) == 1 else "json"
    if type(value) is int and not -(2**63) <= value < 2**63:
        return "json"
    return "" if value is None else _SCALARS.get(type(value), "json")


def hyperparameters(settings: Iterable[Settings]) -> dict[str, pa.DataType]:
    """Return the column of each hyperparameter: dotted path and type, sorted by path."""
    names: dict[str, set[str]] = {}
    for one in settings:
        for path, value in leaves(one):
            names.setdefault(path, set()).add(_type_name(value))
    return {path: _common(names[path]) for path in sorted(names)}


def _common(names: set[str]) -> pa.DataType:
    known = names - {""}
    if EMPTY in known and all(name.startswith("list<") for name in known):
        known = known - {EMPTY} or {"list<string>"}
    return TYPES.get(known.pop(), TYPES["string"]) if len(known) == 1 else TYPES["string"]


def text_of(value: Any) -> str:
    """Return `value` as a column of text holds it: a string as itself, quoted where it reads as JSON; else JSON."""
    if isinstance(value, str) and not _reads_as_json(value):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
