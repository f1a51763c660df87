from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.errors import StoreError
from nnscan.results.folder import ScanFolder
from nnscan.results.metric import METRICS
from nnscan.results.schema import (
    TYPES,
    Schemas,
    hyperparameters,
    leaves,
    read_schemas,
    text_of,
    told_by,
    unify,
    write_schemas,
)

BOOL, INT, FLOAT, TEXT = pa.bool_(), pa.int64(), pa.float64(), pa.string()


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        pytest.param([True, False], BOOL, id="bool"),
        pytest.param([1, 2], INT, id="int"),
        pytest.param([0.1, 1e9], FLOAT, id="float"),
        pytest.param(["adam"], TEXT, id="string"),
        pytest.param([[1, 2], [3]], TYPES["list<int64>"], id="list of int"),
        pytest.param([[0.9, 0.999]], TYPES["list<double>"], id="list of float"),
        pytest.param([["a"], ["b", "c"]], TYPES["list<string>"], id="list of string"),
        pytest.param([[True]], TYPES["list<bool>"], id="list of bool"),
        pytest.param([1, 0.5], TEXT, id="int and float"),
        pytest.param([True, 1], TEXT, id="bool and int"),
        pytest.param(["auto", 3], TEXT, id="string and int"),
        pytest.param([[1, 0.5]], TEXT, id="mixed list"),
        pytest.param([[1], [0.5]], TEXT, id="lists of two types"),
        pytest.param([[[1], [2]]], TEXT, id="nested list"),
        pytest.param([[{"a": 1}]], TEXT, id="list of tables"),
        pytest.param([[]], TYPES["list<string>"], id="empty list"),
        pytest.param([[1], []], TYPES["list<int64>"], id="list and empty list"),
        pytest.param([1, []], TEXT, id="int and empty list"),
        pytest.param([[[]], [[1]]], TEXT, id="nested empty list"),
        pytest.param([2**63], TEXT, id="beyond 64 bits"),
        pytest.param([None, 2], INT, id="null and int"),
        pytest.param([None], TEXT, id="null alone"),
    ],
)
def test_a_column_has_the_type_of_its_values(values: list[Any], type_: pa.DataType) -> None:
    settings = [{"model": {"arguments": {"x": value}}} for value in values]
    assert hyperparameters(settings) == {"model.arguments.x": type_}


def test_hyperparameters_are_the_leaves_of_all_configurations() -> None:
    settings = [
        {"optimizer": {"name": "adam", "betas": [0.9, 0.999], "schedule": {"name": "constant"}}, "model": {}},
        {"optimizer": {"name": "sgd", "momentum": 0.9, "schedule": {"name": "step", "every": 3}}},
    ]
    assert list(hyperparameters(settings)) == [
        "optimizer.betas",
        "optimizer.momentum",
        "optimizer.name",
        "optimizer.schedule.every",
        "optimizer.schedule.name",
    ]
    assert dict(leaves(settings[0]))["optimizer.schedule.name"] == "constant"


def test_columns_stand_in_the_documented_order() -> None:
    schemas = Schemas.of({"optimizer.learning_rate": FLOAT, "model.width": INT}, METRICS)
    names = schemas.trials.names
    assert names[:6] == ["trial", "configuration", "family", "kind", "fold", "replicate"]
    assert names[names.index("test_class_accuracy") + 1 :] == [*METRICS, "model.width", "optimizer.learning_rate"]
    first = ["trial", "configuration", "kind", "fold", "replicate", "epoch"]
    assert schemas.epochs.names == [*first, *METRICS, "attempt", "writer"]
    assert schemas.steps.names == ["trial", "epoch", "step", "name", "value", "attempt", "writer"]
    assert schemas.epochs.field("val_class_accuracy").type == TYPES["list<double>"]
    assert schemas.trials.field("started").type == pa.timestamp("us", tz="UTC")


ALL_TYPES = {f"model.arguments.{number}": type_ for number, type_ in enumerate(TYPES.values())}


def test_json_holds_everything(tmp_path: Path) -> None:
    schemas = Schemas.of(ALL_TYPES, ["loss", "val_class_accuracy"])
    folder = ScanFolder(tmp_path)
    assert read_schemas(folder) is None
    write_schemas(folder, schemas)
    assert read_schemas(folder) == schemas
    assert told_by(schemas.trials) == schemas
    assert schemas.hyperparameters == ALL_TYPES
    assert schemas.metrics == ("loss", "val_class_accuracy")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "{}", '{"format": 1, "trials": {"a": "complex"}, "epochs": {}, "steps": {}}']
)
def test_a_damaged_schema_is_told_with_what_to_do(text: str, tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    folder.schema.write_text(text)
    with pytest.raises(StoreError, match=r"schema\.json does not read.*move it away"):
        read_schemas(folder)


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    folder.schema.write_text(json.dumps({"format": 99}))
    with pytest.raises(StoreError, match="upgrade nnscan"):
        read_schemas(folder)


def test_unify_keeps_what_agrees_and_makes_the_rest_text() -> None:
    old = Schemas.of({"a.x": INT, "a.y": FLOAT, "a.only": BOOL}, ["loss", "old"])
    new = Schemas.of({"a.x": INT, "a.y": INT, "b.only": TEXT}, ["new", "loss"])
    both = unify(old, new)
    assert both.hyperparameters == {"a.x": INT, "a.y": TEXT, "a.only": BOOL, "b.only": TEXT}
    assert both.metrics == ("loss", "old", "new")


paths = st.sampled_from(["a.x", "a.y", "b.x", "b.y.z"])
some_schemas = st.builds(
    Schemas.of,
    st.dictionaries(paths, st.sampled_from([BOOL, INT, FLOAT, TEXT, TYPES["list<int64>"]])),
    st.lists(st.sampled_from(METRICS), unique=True),
)


@given(some_schemas, some_schemas, some_schemas)
def test_unify_is_idempotent_and_needs_no_order_of_launches(a: Schemas, b: Schemas, c: Schemas) -> None:
    assert unify(a, a) == a
    assert unify(unify(a, b), b) == unify(a, b)
    assert unify(a, b).hyperparameters == unify(b, a).hyperparameters
    assert unify(unify(a, b), c) == unify(a, unify(b, c))
    assert Schemas.from_json(unify(a, b).to_json()) == unify(a, b)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("adam", "adam"),
        ("3", '"3"'),
        (3, "3"),
        (1.0, "1.0"),
        (True, "true"),
        ("true", '"true"'),
        ([1, "a"], '[1, "a"]'),
    ],
)
def test_text_of_a_value(value: Any, text: str) -> None:
    assert text_of(value) == text


scalars = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def _meaning(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@given(scalars | st.lists(scalars))
def test_text_tells_every_value_from_every_other(value: Any) -> None:
    back = _meaning(text_of(value))
    assert (back, type(back)) == (value, type(value))
    assert not isinstance(value, float) or math.copysign(1, back) == math.copysign(1, value)
