import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan import toml

text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | text
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=15)


@given(values)
def test_a_value_reads_back(value: object) -> None:
    read = tomllib.loads(f"x = {toml.value(value)}")["x"]
    assert (read, repr(read)) == (value, repr(value))


@given(st.lists(text, min_size=1, max_size=4))
def test_a_key_reads_back(path: list[str]) -> None:
    read = tomllib.loads(f"{toml.key(path)} = 1")
    for part in path:
        read = read[part]
    assert read == 1


def test_a_table_reads_back() -> None:
    text = toml.table("[model]", {("name",): "mlp", ("arguments", "a b"): [1, 2]})
    assert tomllib.loads(text) == {"model": {"name": "mlp", "arguments": {"a b": [1, 2]}}}


def test_what_toml_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError, match="None"):
        toml.value([None])
