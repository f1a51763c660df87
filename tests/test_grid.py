import itertools
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from nnscan import toml
from nnscan.errors import ScanError
from nnscan.grid import axes, configurations, samples
from nnscan.identity import canonical_json, completed, configuration_key
from nnscan.options.declared import chosen
from nnscan.options.tables import SECTIONS, Folds, HoldOut
from nnscan.scan import Scan, read

BASE = """
name = "test"
data.name = "digits"
model.name = "mlp"
optimizer.name = "sgd"
training.epochs = 3
"""


def settings_of(scan: Scan) -> list[dict[str, Any]]:
    return [configuration.settings for configuration in configurations(scan)]


def at(settings: Mapping[str, Any], path: str) -> Any:
    for part in path.split("."):
        settings = settings[part]
    return settings


def test_defaults_are_in_the_settings() -> None:
    assert settings_of(read(BASE)) == [
        {
            "data": {
                "name": "digits",
                "normalization": "standard",
                "test": 0.2,
                "augmentation": {"crop_padding": 0, "horizontal_flip": False, "cutout": 0},
            },
            "model": {"name": "mlp", "width": 64, "depth": 2, "dropout": 0.0, "activation": "relu"},
            "optimizer": {
                "name": "sgd",
                "learning_rate": 0.01,
                "momentum": 0.0,
                "nesterov": False,
                "weight_decay": 0.0,
                "schedule": {"name": "constant"},
            },
            "task": {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0},
            "training": {
                "epochs": 3,
                "batch_size": 64,
                "precision": "float32",
                "seed": 0,
                "gradient_clip": 0.0,
                "keep": "none",
                "early_stopping": {"patience": 0, "monitor": "val_loss"},
            },
            "validation": {"holdout": 0.2, "stratified": True},
        }
    ]


def test_the_key_of_the_digits_configuration_never_changes() -> None:
    # Stored results are found by it: a release that changes it orphans all of them.
    (configuration,) = configurations(read(BASE))
    assert configuration.key == "eb22a2069387035d12b62d0d6dcdf3a9"


def test_points_come_in_file_order_and_the_last_axis_varies_fastest() -> None:
    scan = read(
        BASE
        + """
        [[grid]]
        family = "A"
        optimizer.learning_rate = [0.1, 0.01]
        model.width = [8, 4, 16]
        model.activation = ["tanh", "relu"]
        """
    )
    found = [
        (at(s, "optimizer.learning_rate"), at(s, "model.width"), at(s, "model.activation")) for s in settings_of(scan)
    ]
    assert found == list(itertools.product([0.1, 0.01], [8, 4, 16], ["tanh", "relu"]))


def test_grid_tables_come_one_after_another() -> None:
    scan = read(BASE + '[[grid]]\nfamily = "B"\nmodel.width = [3, 1]\n[[grid]]\nfamily = "A"\nmodel.width = 2\n')
    assert [(c.family, c.settings["model"]["width"]) for c in configurations(scan)] == [("B", 3), ("B", 1), ("A", 2)]


def test_zipped_axes_vary_together() -> None:
    scan = read(
        BASE
        + """
        [[grid]]
        family = "A"
        zip = [["optimizer.learning_rate", "training.batch_size"]]
        optimizer.learning_rate = [0.1, 0.01]
        model.width = [8, 4]
        training.batch_size = [16, 32]
        """
    )
    found = [
        (at(s, "optimizer.learning_rate"), at(s, "training.batch_size"), at(s, "model.width"))
        for s in settings_of(scan)
    ]
    assert found == [(0.1, 16, 8), (0.1, 16, 4), (0.01, 32, 8), (0.01, 32, 4)]


def test_zip_takes_one_flat_list_and_quoted_keys() -> None:
    text = (
        '[[grid]]\nfamily = "A"\nzip = ["model.width", \'model."depth"\']\nmodel.width = [8, 4]\nmodel.depth = [1, 2]\n'
    )
    assert [(s["model"]["width"], s["model"]["depth"]) for s in settings_of(read(BASE + text))] == [(8, 1), (4, 2)]


def test_a_zipped_axis_may_repeat_a_value() -> None:
    text = '[[grid]]\nfamily = "A"\nzip = ["model.width", "model.depth"]\nmodel.width = [8, 8]\nmodel.depth = [1, 2]\n'
    assert len(settings_of(read(BASE + text))) == 2


def test_a_name_can_be_an_axis_and_brings_its_own_defaults() -> None:
    text = """
    [[grid]]
    family = "A"
    model.width = [8, 4]
    optimizer.name = ["sgd", "adamw"]
    optimizer.weight_decay = [0, 1]
    """
    found = settings_of(read(BASE + text))
    names = [(s["model"]["width"], s["optimizer"]["name"], s["optimizer"]["weight_decay"]) for s in found]
    assert names == list(itertools.product([8, 4], ["sgd", "adamw"], [0.0, 1.0]))
    assert {s["optimizer"]["name"]: s["optimizer"]["learning_rate"] for s in found} == {"sgd": 0.01, "adamw": 0.001}
    assert all(("momentum" in s["optimizer"]) == (s["optimizer"]["name"] == "sgd") for s in found)


def test_a_name_zipped_with_an_option_gives_each_its_own_value() -> None:
    text = """
    [[grid]]
    family = "A"
    zip = ["optimizer.name", "optimizer.learning_rate"]
    optimizer.name = ["sgd", "adam"]
    optimizer.learning_rate = [0.1, 0.001]
    """
    found = [(s["optimizer"]["name"], s["optimizer"]["learning_rate"]) for s in settings_of(read(BASE + text))]
    assert found == [("sgd", 0.1), ("adam", 0.001)]


def test_a_schedule_can_be_an_axis() -> None:
    text = '[[grid]]\nfamily = "A"\noptimizer.schedule.name = ["constant", "cosine", "one_cycle"]\n'
    found = [s["optimizer"]["schedule"] for s in settings_of(read(BASE + text))]
    assert found == [
        {"name": "constant"},
        {"name": "cosine", "final_fraction": 0.0},
        {"name": "one_cycle", "warmup_fraction": 0.3, "initial_fraction": 0.04, "final_fraction": 0.0001},
    ]


def test_a_flat_list_is_one_value_of_a_list_option_and_a_list_of_lists_an_axis() -> None:
    text = """
    model.channels = [4]
    [[grid]]
    family = "one"
    model.channels = [8, 16]
    [[grid]]
    family = "two"
    model.channels = [[8, 16], [32]]
    [[grid]]
    family = "base"
    """
    scan = read(BASE.replace("mlp", "cnn") + text)
    found = [(c.family, c.settings["model"]["channels"]) for c in configurations(scan)]
    assert found == [("one", [8, 16]), ("two", [8, 16]), ("two", [32]), ("base", [4])]


@pytest.mark.parametrize("written", ["1", "1.0", "10e-1", "+1"])
def test_ways_to_write_a_float_are_one_configuration(written: str) -> None:
    expected = [configuration.key for configuration in configurations(read(BASE + "optimizer.learning_rate = 1.0"))]
    assert [c.key for c in configurations(read(BASE + f"optimizer.learning_rate = {written}"))] == expected


def test_negative_zero_is_zero() -> None:
    keys = [next(configurations(read(BASE + f"model.dropout = {zero}"))).key for zero in ("0.0", "-0.0", "0")]
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    "text",
    [
        'name = "other"\n' + BASE.replace('name = "test"\n', "", 1),
        BASE + "validation.replicates = 4",
        BASE + 'data.root = "/somewhere"',
        BASE + "resources.gpus_per_trial = 1",
        BASE + "resources.processes_per_trial = 4",
        BASE + "training.accumulation = 1",
        BASE + 'selection.metric = "val_loss"',
        BASE + '[[grid]]\nfamily = "A"\nmodel.width = 64',
        "\n".join(reversed(BASE.splitlines())),
    ],
    ids=[
        "name",
        "replicates",
        "root",
        "resources",
        "processes",
        "an option that came later",
        "selection",
        "family and defaults written out",
        "order",
    ],
)
def test_what_does_not_decide_a_result_is_not_in_the_key(text: str) -> None:
    expected = next(configurations(read(BASE))).key
    assert next(configurations(read(text))).key == expected


@pytest.mark.parametrize(
    "line",
    [
        "training.seed = 1",
        "validation.holdout = 0.3",
        "validation.folds = 5",
        "validation.stratified = false",
        "data.test = 0.3",
        "task.label_smoothing = 0.1",
        "optimizer.momentum = 0.9",
        "model.width = 65",
        "training.epochs = 4",
        "training.accumulation = 2",
    ],
)
def test_what_decides_a_result_is_in_the_key(line: str) -> None:
    changed = BASE.replace("training.epochs = 3", line) if "epochs" in line else BASE + line
    assert next(configurations(read(changed))).key != next(configurations(read(BASE))).key


def test_a_configuration_twice_in_a_family_is_one_and_stands_in_two_families() -> None:
    text = """
    [[grid]]
    family = "A"
    model.width = [1, 2]
    [[grid]]
    family = "A"
    model.width = [2, 3]
    [[grid]]
    family = "B"
    model.width = 2
    """
    found = list(configurations(read(BASE + text)))
    assert [(c.family, c.settings["model"]["width"]) for c in found] == [("A", 1), ("A", 2), ("A", 3), ("B", 2)]
    assert found[1].key == found[3].key


AXES: dict[str, st.SearchStrategy[Any]] = {
    "model.width": st.integers(1, 100),
    "model.dropout": st.floats(0, 0.99),
    "model.activation": st.sampled_from(["relu", "tanh", "sigmoid", "gelu"]),
    "optimizer.name": st.sampled_from(["sgd", "adam", "adamw"]),
    "optimizer.learning_rate": st.floats(1e-6, 10) | st.integers(1, 10),
    "optimizer.schedule.name": st.sampled_from(["constant", "cosine", "one_cycle"]),
    "training.seed": st.integers(0, 2**63 - 1),
    "training.accumulation": st.sampled_from([1, 2, 64]),
    "data.augmentation.horizontal_flip": st.booleans(),
    "task.loss": st.sampled_from(["cross_entropy", "mse"]),
}


@st.composite
def grids(draw: st.DrawFn) -> dict[str, list[Any]]:
    paths = draw(st.lists(st.sampled_from(sorted(AXES)), unique=True, max_size=4))
    return {path: draw(st.lists(AXES[path], min_size=1, max_size=3, unique=True)) for path in paths}


@examples(max_examples=50)
@given(grids())
def test_a_grid_is_the_product_of_its_axes_with_the_keys_of_its_settings(grid: dict[str, list[Any]]) -> None:
    lines = "".join(f"{path} = {toml.value(values)}\n" for path, values in grid.items())
    found = list(configurations(read(f'{BASE}[[grid]]\nfamily = "A"\n{lines}')))
    paths = by_table(grid)
    expected = list(itertools.product(*(grid[path] for path in paths)))
    assert [tuple(at(completed(c.settings), path) for path in paths) for c in found] == expected
    for configuration in found:
        assert configuration.text == canonical_json(configuration.settings)
        assert configuration.key == configuration_key(configuration.settings)
        assert configuration.settings["training"].get("accumulation") != 1
        assert_declared(completed(configuration.settings))


def by_table(paths: Iterable[str]) -> list[str]:
    """TOML gathers the keys of a table where the table first comes."""
    order = list(dict.fromkeys(tuple(path.split(".")[:depth]) for path in paths for depth in (1, 2, 3)))
    return sorted(paths, key=lambda path: [order.index(tuple(path.split(".")[:depth])) for depth in (1, 2, 3)])


def assert_declared(settings: Mapping[str, Any]) -> None:
    """Every table is what its class of options makes of it: nothing missing, nothing coerced, no default left out."""
    for section, parts in SECTIONS.items():
        names = {(section, "name"): settings[section].get("name")}
        part = chosen((section,), parts, names)
        assert part is not None
        assert part.model_validate(settings[section]).model_dump() == settings[section]
    way = Folds if "folds" in settings["validation"] else HoldOut
    assert way.model_validate(settings["validation"]).model_dump(exclude={"replicates"}) == settings["validation"]


def test_axes_are_the_options_that_vary() -> None:
    text = """
    [[grid]]
    family = "A"
    model.width = [1, 2]
    model.depth = [3]
    optimizer.name = ["sgd", "adam"]
    [[grid]]
    family = "A"
    model.width = [2, 5]
    """
    found = axes(read(BASE + text).grids)
    assert found == {
        ("model", "width"): [1, 2, 5],
        ("model", "depth"): [3, 2],
        ("optimizer", "name"): ["sgd", "adam"],
        ("optimizer", "learning_rate"): [0.01, 0.001],
    }


def test_samples_hold_every_value_of_every_option() -> None:
    text = '[[grid]]\nfamily = "A"\nmodel.width = [1, 2]\noptimizer.name = ["sgd", "adam"]\nmodel.depth = [0, 1]\n'
    scan = read(BASE + text)
    assert leaves(samples(scan.grids)) == leaves(map(completed, settings_of(scan)))


def leaves(settings: Any) -> set[str]:
    return {json.dumps(leaf) for one in settings for leaf in _leaves(one, [])}


def _leaves(value: Any, path: list[str]) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, [*path, key])]
    return [[path, value]]


def test_100_000_configurations_take_less_than_2_seconds() -> None:
    values = {"model.width": 10, "model.depth": 10, "training.seed": 1000}
    lines = "".join(f"{path} = {list(range(1, count + 1))}\n" for path, count in values.items())
    text = f'{BASE}[[grid]]\nfamily = "A"\n{lines}'
    start = time.process_time()  # of this process alone: others may be busy
    count = sum(1 for _ in configurations(read(text)))
    assert count == 100_000
    assert time.process_time() - start < 2


def test_steps_in_another_order_are_the_same_configuration_and_without_any_the_one_of_before() -> None:
    def key(steps: str) -> str:
        return next(configurations(read(f"{BASE}training.steps = {steps}"))).key

    assert key('["loss", "gradient_norms"]') == key('["gradient_norms", "loss"]')
    assert key("[]") == next(configurations(read(BASE))).key != key('["loss"]')
    axis = f'{BASE}[[grid]]\nfamily = "A"\ntraining.steps = [[], ["loss"]]\ntraining.keep_every = [0, 2]\n'
    found = [one.settings["training"] for one in configurations(read(axis))]
    assert [(one.get("steps"), one.get("keep_every")) for one in found] == [
        (None, None),
        (None, 2),
        (["loss"], None),
        (["loss"], 2),
    ]


def test_a_training_function_has_no_steps_that_nnscan_sees() -> None:
    text = 'name = "s"\n[training]\nfunction = "math:sqrt"\nmetrics = ["x"]\nepochs = 1\nsteps = ["loss"]\n'
    with pytest.raises(ScanError, match=r"does not take 'steps'"):
        read(text)
