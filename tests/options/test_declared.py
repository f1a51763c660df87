from typing import Annotated, Any

import pytest
from pydantic import Field

from nnscan.options.declared import (
    Option,
    accepted,
    argument_problem,
    chosen,
    list_options,
    nearest,
    options_of,
    show,
    unknown_name,
)
from nnscan.options.tables import CNN, MLP, SECTIONS, SGD, Count, Training, TrainingFunction

EpochCount = Annotated[Count, Field(lt=5)]


def option(section: str, path: str, **names: str) -> Option:
    keys = {(section, *name.split("__")): value for name, value in names.items()}
    found = {".".join(option.path[1:]): option for option in options_of((section,), SECTIONS[section], keys)}
    return found[path]


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        ({"name": "sgd"}, {"name", "learning_rate", "momentum", "nesterov", "weight_decay", "schedule.name"}),
        (
            {"name": "adam", "schedule__name": "step"},
            {"name", "learning_rate", "betas", "epsilon", "weight_decay", "schedule.name", "schedule.every"}
            | {"schedule.factor"},
        ),
        ({"name": "adam", "schedule__name": "unknown"}, {"name", "learning_rate", "betas", "epsilon", "weight_decay"}),
        ({"name": "unknown"}, set()),
    ],
)
def test_names_choose_the_options(names: dict[str, str], paths: set[str]) -> None:
    keys = {("optimizer", *name.split("__")): value for name, value in names.items()}
    found = options_of(("optimizer",), SECTIONS["optimizer"], keys)
    assert {".".join(option.path[1:]) for option in found} == paths


@pytest.mark.parametrize(
    ("section", "names", "part"),
    [
        ("model", {("model", "name"): "mlp"}, MLP),
        ("model", {("model", "name"): "cnn"}, CNN),
        ("model", {("model", "name"): "unknown"}, None),
        ("model", {("model", "name"): 3}, None),
        ("model", {}, None),
        ("training", {}, Training),
        ("training", {("training", "function"): "anything"}, TrainingFunction),
    ],
)
def test_the_class_that_a_table_has(section: str, names: dict[tuple[str, ...], Any], part: type | None) -> None:
    assert chosen((section,), SECTIONS[section], names) is part


@pytest.mark.parametrize(
    ("one", "value", "result"),
    [
        (option("optimizer", "learning_rate", name="sgd"), 1, 1.0),
        (option("optimizer", "learning_rate", name="sgd"), 1e-4, 1e-4),
        (option("model", "dropout", name="mlp"), -0.0, 0.0),
        (option("model", "depth", name="mlp"), 0, 0),
        (option("model", "channels", name="cnn"), [8, 16], [8, 16]),
        (option("optimizer", "betas", name="adam"), [0, 0.5], [0.0, 0.5]),
    ],
    ids=lambda value: ".".join(value.path) if isinstance(value, Option) else "",
)
def test_a_value_takes_the_declared_type(one: Option, value: Any, result: Any) -> None:
    values, problems = one.check([value])
    assert problems == []
    assert repr(values) == repr([result])


@pytest.mark.parametrize(
    ("one", "wrong"),
    [
        (
            option("optimizer", "learning_rate", name="sgd"),
            [0, -1, True, "1", None, float("nan"), float("inf"), 10**400],
        ),
        (option("optimizer", "momentum", name="sgd"), [-0.1, 1, 1.5]),
        (option("model", "width", name="mlp"), [0, -3, 1.0, True, "3", 2**31, 2**70]),
        (option("model", "channels", name="cnn"), [[], 8, [0], [8.0], "8", [[8]]]),
        (option("optimizer", "betas", name="adam"), [[], [0.9], [0.9, 0.9, 0.9], [0.9, 1.0]]),
        (option("data", "test", name="digits"), [0, 1, 0.0, -0.1]),
        (option("training", "seed"), [-1, 2**63, 1.0]),
        (option("model", "activation", name="mlp"), ["Relu", "", 3, ["relu"]]),
        (option("model", "batch_norm", name="cnn"), [0, 1, "true"]),
        (option("model", "weights", name="torchvision:x"), ["DEFAULT", "imagenet", "sha256:12", "", 3]),
    ],
    ids=lambda value: ".".join(value.path) if isinstance(value, Option) else "",
)
def test_each_wrong_value_is_told_with_its_index(one: Option, wrong: list[Any]) -> None:
    values, problems = one.check(wrong)
    assert values == []
    assert [indices[0] for indices, _ in problems] == list(range(len(wrong)))
    assert all(message.endswith((".", "?")) for _, message in problems)


def test_a_wrong_value_in_a_list_is_told_with_both_indices() -> None:
    _, problems = option("model", "channels", name="cnn").check([[8], [8, 0, 3]])
    assert problems == [((1, 1), "found 0; accepted: a list of at least 1 values, each a whole number at least 1.")]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Count, "a whole number at least 1"),
        (bool, "true or false"),
        (EpochCount, "a whole number at least 1 and below 5"),
        (list[Count], "a list of values, each a whole number at least 1"),
    ],
)
def test_accepted_says_a_type_in_words(kind: Any, words: str) -> None:
    assert accepted(kind) == words


def test_an_unknown_name_is_told_with_those_there_are() -> None:
    told = unknown_name(("optimizer",), SECTIONS["optimizer"], {("optimizer", "name"): "adm"})
    assert told == 'found "adm"; accepted: "sgd", "adam", "adamw". Did you mean "adam"?'
    assert unknown_name(("optimizer",), SECTIONS["optimizer"], {}) == 'missing; accepted: "sgd", "adam", "adamw".'


def test_options_whose_value_is_a_list() -> None:
    of_models = {("model", "channels"), ("model", "widths"), ("model", "dense_units")}
    others = {("optimizer", "betas"), ("training", "metrics"), ("training", "steps"), ("task", "metrics")}
    assert list_options() == dict.fromkeys(of_models | others, 1) | RANGES


RANGES = {("model", "class_ranges"): 2}


def test_nearest_says_nothing_of_what_is_like_none() -> None:
    assert nearest("zzz", ["width", "depth"]) == ""
    assert nearest(3, ["width"]) == ""
    assert nearest("widht", ["width"]) == ' Did you mean "width"?'


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), ("ü", '"ü"'), (1.0, "1.0"), ([1], "[1]"), (float("nan"), "NaN")]
)
def test_show_says_a_value_as_the_file_has_it(value: Any, text: str) -> None:
    assert show(value) == text


def test_show_says_a_number_that_python_will_not_write() -> None:
    assert show(10**5000) == "a huge number"


def test_show_cuts_what_is_long() -> None:
    assert len(show("x" * 1000)) == 80


@pytest.mark.parametrize("value", [1, -(2**63), 2**63 - 1, 1.5, True, "x", [1, ["a"]], {"a": [1]}, []])
def test_an_argument_is_any_json_value(value: Any) -> None:
    assert argument_problem(value) == ""


@pytest.mark.parametrize("value", [None, 2**63, -(2**63) - 1, float("nan"), [[float("inf")]], {"a": None}, (1, 2), SGD])
def test_an_argument_that_is_no_json_value_is_told(value: Any) -> None:
    assert argument_problem(value)
