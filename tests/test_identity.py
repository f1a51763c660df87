import json
import math
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.identity import LATER, Purpose, canonical_json, completed, configuration_key, left_out, seed32, trial_key
from nnscan.trial import Kind

finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.booleans() | st.integers() | finite | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)

CONFIGURATION = "00112233445566778899aabbccddeeff"


def test_configuration_key_is_blake2b_of_the_canonical_json() -> None:
    # printf '{"a":1}' | b2sum -l 128
    assert configuration_key({"a": 1}) == "2c6b113b8dd15ffbded9860b43eb0c6c"


def test_trial_key_of_a_trial_is_a_published_constant() -> None:
    # printf '["00112233445566778899aabbccddeeff","trial",0,1,0]' | b2sum -l 128
    key = trial_key(CONFIGURATION, kind=Kind.TRIAL, epochs=0, fold=1, replicate=0)
    assert key == "9364e2bee812630a9dc02c86c0934bf9"


def test_trial_key_of_a_retraining_is_a_published_constant() -> None:
    # printf '["00112233445566778899aabbccddeeff","retraining",17,0,0]' | b2sum -l 128
    key = trial_key(CONFIGURATION, kind=Kind.RETRAINING, epochs=17, fold=0, replicate=0)
    assert key == "ddf67f40643a706ef53aa91093011b91"


@given(st.integers(0, 99), st.integers(0, 99))
def test_trial_key_hashes_canonical_json(fold: int, replicate: int) -> None:
    text = canonical_json([CONFIGURATION, "retraining", 3, fold, replicate])
    expected = blake2b(text.encode(), digest_size=16).hexdigest()
    assert trial_key(CONFIGURATION, kind=Kind.RETRAINING, epochs=3, fold=fold, replicate=replicate) == expected


def test_trial_key_refuses_epochs_of_a_trial() -> None:
    with pytest.raises(ValueError, match="epochs=0"):
        trial_key(CONFIGURATION, kind=Kind.TRIAL, epochs=3, fold=0, replicate=0)


@given(values)
def test_canonical_json_says_the_value(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


@given(st.dictionaries(st.text(), scalars, min_size=2, max_size=5))
def test_canonical_json_forgets_the_order_of_keys(table: dict[str, object]) -> None:
    backwards = dict(reversed(table.items()))
    assert canonical_json(table) == canonical_json(backwards)


@given(values)
def test_canonical_json_has_no_space_outside_strings_and_is_ascii(value: object) -> None:
    text = canonical_json(value)
    assert text.isascii()
    assert text == json.dumps(json.loads(text), separators=(",", ":"), sort_keys=True)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, "x"]}, '{"a":[true,"x"],"b":1}'),
        (10e-1, "1.0"),
        (1, "1"),
        (1e-4, "0.0001"),
        (-0.0, "0.0"),
        ({"a": [-0.0]}, '{"a":[0.0]}'),
        ((1, 2), "[1,2]"),
        ("ü", '"\\u00fc"'),
    ],
)
def test_canonical_json_of_known_values(value: object, text: str) -> None:
    assert canonical_json(value) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, [math.nan], {"a": {"b": math.inf}}])
def test_canonical_json_refuses_what_is_no_number(value: object) -> None:
    with pytest.raises(ValueError, match="no JSON number"):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, {True: 2}, {"a": {1.0: 2}}, {"a": object()}, {"a": {1, 2}}])
def test_canonical_json_refuses_what_is_no_json(value: object) -> None:
    with pytest.raises(TypeError):
        canonical_json(value)


def test_seed32_is_a_published_constant() -> None:
    # printf '[7,1,2,"order",3]' | b2sum -l 32
    assert seed32(7, Purpose.ORDER, replicate=1, fold=2, epoch=3) == 0xF3C51FD6


@given(st.integers(0, 2**63 - 1), st.sampled_from(Purpose), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
def test_seed32_has_32_bits(seed: int, purpose: Purpose, replicate: int, fold: int, epoch: int) -> None:
    assert 0 <= seed32(seed, purpose, replicate=replicate, fold=fold, epoch=epoch) < 2**32


@pytest.mark.parametrize("purpose", [Purpose.DATA, Purpose.INITIALISATION, Purpose.ORDER, Purpose.AUGMENTATION])
@pytest.mark.parametrize("what", ["replicate", "fold", "epoch"])
def test_seed32_depends_on(purpose: Purpose, what: str) -> None:
    assert seed32(0, purpose) != seed32(0, purpose, **{what: 1})


def test_seed32_of_the_folds_depends_on_seed_and_replicate_alone() -> None:
    assert seed32(0, Purpose.FOLDS, fold=1, epoch=2) == seed32(0, Purpose.FOLDS)
    assert seed32(0, Purpose.FOLDS, replicate=1) != seed32(0, Purpose.FOLDS)
    assert seed32(1, Purpose.FOLDS) != seed32(0, Purpose.FOLDS)


def test_seed32_of_the_test_set_depends_on_the_seed_alone() -> None:
    assert seed32(0, Purpose.TEST, replicate=3, fold=1, epoch=2) == seed32(0, Purpose.TEST)
    assert seed32(1, Purpose.TEST) != seed32(0, Purpose.TEST)


def test_seed32_of_a_rank_above_0_is_its_own() -> None:
    # printf '[7,1,2,"dropout",3,1]' | b2sum -l 32
    assert seed32(7, Purpose.DROPOUT, replicate=1, fold=2, epoch=3, rank=1) == 0xB362352F
    seeds = {seed32(7, Purpose.DROPOUT, rank=rank) for rank in range(8)}
    assert len(seeds) == 8
    assert seed32(7, Purpose.DROPOUT) == seed32(7, Purpose.DROPOUT, rank=0)


def test_settings_hold_an_option_that_came_later_only_where_it_changes_something() -> None:
    settings = {"training": {"batch_size": 8, "epochs": 2}, "model": {"width": 1}}
    more = {later.path[1]: later.value for later in LATER if later.beside == "batch_size"}
    assert completed(settings) == {"training": {**more, "batch_size": 8, "epochs": 2}, "model": {"width": 1}}
    assert more["accumulation"] == 1
    for later in LATER:
        assert left_out(later.path, later.value)
        assert not left_out(later.path, [later.value])
        assert not left_out(("optimizer", later.path[1]), later.value)


def test_completed_settings_keep_what_they_hold() -> None:
    table = {"batch_size": 8, "accumulation": 4}
    assert completed({"training": table})["training"].items() >= table.items()
    assert completed({"training": {"function": "a:b"}}) == {"training": {"function": "a:b"}}


def test_seeds_of_all_purposes_differ() -> None:
    assert len({seed32(0, purpose) for purpose in Purpose}) == len(Purpose)
