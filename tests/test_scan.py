import os
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from nnscan import toml
from nnscan.errors import ScanError
from nnscan.grid import configurations, metrics
from nnscan.results.metric import METRICS
from nnscan.scan import PACKAGED_JOBS, Scan, find_scan_file, load, read

HEAD = """
name = "test"
data.name = "digits"
model.name = "mlp"
optimizer.name = "sgd"
training.epochs = 3
"""

GRID = '[[grid]]\nfamily = "A"\n'


def problems(text: str, **options: Any) -> list[tuple[str, str]]:
    with pytest.raises(ScanError) as caught:
        read(text, "scan.toml", **options)
    return [(problem.path, problem.message) for problem in caught.value.problems]


def keys(scan: Scan) -> list[tuple[str, str]]:
    return [(configuration.family, configuration.key) for configuration in configurations(scan)]


def only(scan: Scan, path: str) -> list[Any]:
    found = []
    for configuration in configurations(scan):
        value: Any = configuration.settings
        for part in path.split("."):
            value = value[part]
        found.append(value)
    return found


# ------------------------------------------------------------------------------------------------ what is wrong


WRONG: dict[str, tuple[str, str, list[str]]] = {
    # id: (text, where, what the message holds)
    "unknown table": (HEAD + "[modle]", "modle", ["Did you mean", '"model"']),
    "unknown option": (HEAD + "optimizer.leraning_rate = 1", "optimizer.leraning_rate", ['"sgd"', '"learning_rate"']),
    "unknown option in a grid": (
        HEAD + GRID + "optimizer.leraning_rate = [1, 2]",
        "grid[0].optimizer.leraning_rate",
        ['Did you mean "learning_rate"?'],
    ),
    "option of another model": (HEAD + "model.kernel_size = 3", "model.kernel_size", ['model "mlp"', "width"]),
    "unknown early stopping": (
        HEAD + "training.early_stopping.patient = 3",
        "training.early_stopping.patient",
        ["early_stopping.patience"],
    ),
    "option of another schedule": (HEAD + "optimizer.schedule.every = 3", "optimizer.schedule.every", ["sgd"]),
    "table under an option": (HEAD + "model.width.x = 3", "model.width.x", ["no table", "a whole number"]),
    "value for a table": (HEAD + "training.early_stopping = 3", "training.early_stopping", ["found 3", "a table"]),
    "empty table for an option": (HEAD + "model.width = {}", "model.width", ["found {}", "a whole number"]),
    "unknown model": (HEAD.replace("mlp", "mpl"), "model.name", ['found "mpl"', '"cnn"', 'Did you mean "mlp"?']),
    "unknown schedule": (
        HEAD + 'optimizer.schedule.name = "cosin"',
        "optimizer.schedule.name",
        ['Did you mean "cosine"?'],
    ),
    "name of a wrong type": (HEAD.replace('"mlp"', "[1]"), "model.name", ["found [1]"]),
    "missing model": (HEAD.replace('model.name = "mlp"', ""), "model.name", ["missing", '"mlp"', "package.module"]),
    "missing epochs": (HEAD.replace("training.epochs = 3", ""), "training.epochs", ["missing", "at least 0"]),
    "missing size": (HEAD.replace('"digits"', '"image_folder"'), "data.size", ["missing"]),
    "missing every": (HEAD + 'optimizer.schedule.name = "step"', "optimizer.schedule.every", ["missing"]),
    "float for an integer": (HEAD + "model.width = 3.0", "model.width", ["found 3.0", "a whole number at least 1"]),
    "boolean for an integer": (HEAD + "model.width = true", "model.width", ["found true"]),
    "boolean for a float": (HEAD + "model.dropout = true", "model.dropout", ["found true"]),
    "string for a float": (HEAD + 'optimizer.learning_rate = "0.1"', "optimizer.learning_rate", ['found "0.1"']),
    "date for a float": (HEAD + "optimizer.learning_rate = 2020-01-01", "optimizer.learning_rate", ["2020-01-01"]),
    "integer for a boolean": (HEAD + "validation.stratified = 1", "validation.stratified", ["true or false"]),
    "learning rate of 0": (HEAD + "optimizer.learning_rate = 0", "optimizer.learning_rate", ["above 0"]),
    "infinite": (HEAD + "optimizer.learning_rate = inf", "optimizer.learning_rate", ["found Infinity"]),
    "not a number": (HEAD + "optimizer.learning_rate = nan", "optimizer.learning_rate", ["found NaN"]),
    "dropout of 1": (HEAD + "model.dropout = 1", "model.dropout", ["at least 0 and below 1"]),
    "one fold": (HEAD + "validation.folds = 1", "validation.folds", ["at least 2"]),
    "folds and holdout": (HEAD + "validation = {folds = 3, holdout = 0.1}", "validation", ["one of them"]),
    "no replicate": (HEAD + "validation.replicates = 0", "validation.replicates", ["at least 1"]),
    "unknown validation": (HEAD + "validation.fold = 3", "validation.fold", ['Did you mean "folds"?', "holdout"]),
    "unknown resource": (HEAD + "resources.gpu_per_trial = 3", "resources.gpu_per_trial", ['"gpus_per_trial"']),
    "a GPU and a half": (HEAD + "resources.gpus_per_trial = 1.5", "resources.gpus_per_trial", ["whole number"]),
    "processes that nodes cannot share": (
        HEAD + "resources = {processes_per_trial = 3, nodes_per_trial = 2}\ntraining.batch_size = 6",
        "resources.processes_per_trial",
        ["3 processes", "2 nodes", "such as 4"],
    ),
    "cores that processes cannot share": (
        HEAD + "resources = {processes_per_trial = 4, cpus_per_trial = 6}",
        "resources.cpus_per_trial",
        ["found 6", "multiple of 4", "such as 8"],
    ),
    "GPUs without a process each": (
        HEAD + "resources = {processes_per_trial = 2, gpus_per_trial = 4}",
        "resources.gpus_per_trial",
        ["found 4 for 2 processes", "set it to 2", "processes_per_trial = 4"],
    ),
    "processes that share a GPU": (
        HEAD + "resources = {processes_per_trial = 2, gpus_per_trial = 0.5}",
        "resources.gpus_per_trial",
        ["found 0.5 for 2 processes"],
    ),
    "processes with one GPU in all": (
        HEAD + "resources = {processes_per_trial = 2, gpus_per_trial = 1}",
        "resources.gpus_per_trial",
        ["found 1 for 2 processes"],
    ),
    "a batch that processes cannot share": (
        HEAD + "training.batch_size = 30\nresources.gpus_per_trial = 4",
        "training.batch_size",
        ["found 30", "4 processes", "such as 32", "resources.processes_per_trial"],
    ),
    "one batch size of an axis": (
        HEAD + "resources.processes_per_trial = 4\n" + GRID + "training.batch_size = [16, 18, 32]",
        "grid[0].training.batch_size[1]",
        ["found 18", "multiples of 4"],
    ),
    "a default batch size that processes cannot share": (
        HEAD + "resources.processes_per_trial = 3",
        "training.batch_size",
        ["found 64", "multiples of 3"],
    ),
    "a batch that cannot be cut into parts": (
        HEAD + "training.batch_size = 30\ntraining.accumulation = 4",
        "training.batch_size",
        ["found 30", "4 parts", "such as 32", "training.accumulation"],
    ),
    "one combination of batch size and parts": (
        HEAD
        + "resources.processes_per_trial = 2\n"
        + GRID
        + "training.batch_size = [16, 12]\ntraining.accumulation = [1, 4]",
        "grid[0].training.batch_size[1]",
        ["found 12", "2 processes x 4 parts", "multiples of 8"],
    ),
    "a list outside of a grid": (
        HEAD + "optimizer.learning_rate = [1, 2]",
        "optimizer.learning_rate",
        ["found [1, 2]", "[[grid]]"],
    ),
    "empty axis": (HEAD + GRID + "model.width = []", "grid[0].model.width", ["empty"]),
    "a wrong value of an axis": (HEAD + GRID + "model.width = [1, 2, 3.5]", "grid[0].model.width[2]", ["found 3.5"]),
    "a value twice": (HEAD + GRID + "model.width = [1, 2, 1]", "grid[0].model.width[2]", ["[0]"]),
    "a float twice": (HEAD + GRID + "model.dropout = [0, 0.0]", "grid[0].model.dropout[1]", ["[0]"]),
    "a name twice": (HEAD + GRID + 'model.name = ["cnn", "cnn"]', "grid[0].model.name[1]", ['"cnn"', "[0]"]),
    "a wrong name of an axis": (HEAD + GRID + 'model.name = ["mlp", "cn"]', "grid[0].model.name[1]", ['"cnn"']),
    "an option one name does not take": (
        HEAD + GRID + 'model.name = ["mlp", "cnn"]\nmodel.depth = 3',
        "grid[0].model.depth",
        ['model "cnn" does not take'],
    ),
    "channels of a wrong type": (
        HEAD.replace("mlp", "cnn") + GRID + "model.channels = [[8], [8, 0]]",
        "grid[0].model.channels[1][1]",
        ["found 0"],
    ),
    "no channels": (HEAD.replace("mlp", "cnn") + "model.channels = []", "model.channels", ["at least 1"]),
    "one beta": (
        HEAD.replace("sgd", "adam") + "optimizer.betas = [0.9]",
        "optimizer.betas",
        ["at least 2 and at most 2"],
    ),
    "family missing": (HEAD + "[[grid]]\nmodel.width = 3", "grid[0].family", ["missing"]),
    "family of a wrong type": (HEAD + "[[grid]]\nfamily = 3", "grid[0].family", ["found 3"]),
    "family that is no file name": (HEAD + '[[grid]]\nfamily = "../x"', "grid[0].family", ['"../x"']),
    "name that is no file name": (HEAD.replace('"test"', '"a/b"'), "name", ['found "a/b"']),
    "scan's name of a wrong type": (HEAD.replace('"test"', "{a = 1}"), "name", ['found {"a": 1}']),
    "grid that is one table": (HEAD + "[grid]\nmodel.width = 3", "grid", ["[[grid]]"]),
    "grid that is a number": (HEAD + "grid = 3", "grid", ["[[grid]]"]),
    "validation in a grid": (HEAD + GRID + "validation.folds = 3", "grid[0].validation", ["same folds"]),
    "selection in a grid": (HEAD + GRID + 'selection.metric = "val_loss"', "grid[0].selection", ["whole scan"]),
    "resources in a grid": (HEAD + GRID + "resources.cpus_per_trial = 3", "grid[0].resources", ["where and how fast"]),
    "data root in a grid": (HEAD + GRID + 'data.root = "x"', "grid[0].data.root", ["--data-root"]),
    "unknown key in a grid": (HEAD + GRID + "modle.width = 3", "grid[0].modle", ['Did you mean "model"?']),
    "family at the top": ('family = "A"\n' + HEAD, "family", ["[[grid]]"]),
    "table that is a number": (HEAD + "resources = 3", "resources", ["found 3", "[resources]"]),
    "training functon": (HEAD + 'training.functon = "a:b"', "training.functon", ['Did you mean "function"?']),
    "zip of a wrong type": (HEAD + GRID + "zip = 3\nmodel.width = [1]", "grid[0].zip", ["found 3"]),
    "zip of one": (HEAD + GRID + 'zip = ["model.width"]\nmodel.width = [1]', "grid[0].zip", ["two or more"]),
    "zip of no axis": (
        HEAD + GRID + 'zip = ["model.width", "model.dept"]\nmodel.width = [1]\nmodel.depth = [2]',
        "grid[0].zip[0]",
        ['"model.dept" is no axis', 'Did you mean "model.depth"?'],
    ),
    "zip of unequal lengths": (
        HEAD + GRID + 'zip = ["model.width", "model.depth"]\nmodel.width = [1]\nmodel.depth = [2, 3]',
        "grid[0].zip[0]",
        ["model.width has 1", "model.depth has 2"],
    ),
    "zipped twice": (
        HEAD + GRID + 'zip = [["model.width", "model.depth"], ["model.width", "training.seed"]]\n'
        "model = {width = [1], depth = [1]}\ntraining.seed = [1]",
        "grid[0].zip[1]",
        ["twice"],
    ),
    "zipped with itself": (
        HEAD + GRID + 'zip = ["model.width", "model.width"]\nmodel.width = [1]',
        "grid[0].zip[0]",
        ["twice"],
    ),
    "zipped point twice": (
        HEAD + GRID + 'zip = ["model.width", "model.depth"]\nmodel.width = [1, 1]\nmodel.depth = [2, 2]',
        "grid[0].model.width[1]",
        ["[0]"],
    ),
    "Nesterov without momentum": (HEAD + "optimizer.nesterov = true", "optimizer.nesterov", ["momentum above 0"]),
    "Nesterov at one point": (
        HEAD + GRID + "optimizer.nesterov = [false, true]\noptimizer.momentum = [0.9, 0]",
        "grid[0].optimizer.nesterov[1]",
        ["momentum above 0"],
    ),
    "smoothing without cross-entropy": (
        HEAD + 'task = {loss = "mse", label_smoothing = 0.1}',
        "task.label_smoothing",
        ["cross_entropy"],
    ),
    "ranges of labels that overlap": (
        HEAD.replace('"mlp"', '"torchvision:resnet18"') + "model.class_ranges = [[0, 9], [20, 30, 9, 10]]",
        "model.class_ranges",
        ["range 9 to 10 shares label 9"],
    ),
    "a range of labels that ends before it begins": (
        HEAD.replace('"mlp"', '"torchvision:resnet18"') + "model.class_ranges = [[0, 9], [20, 10]]",
        "model.class_ranges",
        ["range 20 to 10 ends before it begins"],
    ),
    "a range of labels without an end": (
        HEAD.replace('"mlp"', '"torchvision:resnet18"') + "model.class_ranges = [[0, 9], [10, 12, 14]]",
        "model.class_ranges",
        ["two numbers a range"],
    ),
    "a label that ImageNet does not have": (
        HEAD.replace('"mlp"', '"torchvision:resnet18"') + "model.class_ranges = [[0, 9], [10, 1000]]",
        "model.class_ranges[1][1]",
        ["found 1000"],
    ),
    "ImageNet's normalization of grey digits": (
        HEAD + 'data.normalization = "imagenet"',
        "data.normalization",
        ["three channels", '"digits" has one'],
    ),
    "ImageNet's normalization of images made grey": (
        HEAD.replace(
            'data.name = "digits"',
            'data = {name = "image_folder", size = 8, color = "grey", normalization = "imagenet"}',
        ),
        "data.normalization",
        ['data.color = "rgb"'],
    ),
    "unknown metric": (HEAD + 'selection.metric = "val_acuracy"', "selection.metric", ['Did you mean "val_accuracy"?']),
    "metric a class": (HEAD + 'selection.metric = "val_class_accuracy"', "selection.metric", ["val_accuracy"]),
    "weights DEFAULT": (
        HEAD.replace('"mlp"', '"torchvision:resnet18"\nmodel.weights = "DEFAULT"'),
        "model.weights",
        ["from one torchvision to the next"],
    ),
    "module that is not there": (HEAD.replace('"mlp"', '"absent_module:f"'), "model.name", ["ModuleNotFoundError"]),
    "root that is no string": (HEAD + "data.root = 3", "data.root", ["found 3"]),
    "too many trials": (
        HEAD + GRID + f"training.seed = {list(range(100))}\nmodel.width = {list(range(1, 101))}\n"
        f"model.depth = {list(range(100))}\nmodel.dropout = {[i / 100 for i in range(100)]}",
        "grid",
        ["100000000 trials"],
    ),
    "a replaced value": (HEAD + "model.width = 0\n" + GRID + "model.width = 3", "model.width", ["found 0"]),
    "a replaced name": (HEAD.replace('"mlp"', '"mpl"') + GRID + 'model.name = "cnn"', "model.name", ['found "mpl"']),
    "syntax": (HEAD + "x = = 3", "line 7, column 5", ["not TOML"]),
    "nothing after the equals sign": ("name =", "end of document", ["not TOML"]),
    "a key twice": ("name = 'a'\nname = 'b'\n", "line 2, column 11", ["not TOML"]),
    "a huge number": ("name = " + "9" * 5000, "syntax", ["not TOML"]),
    "a huge hexadecimal number": (HEAD + "model.width = 0x" + "f" * 5000, "model.width", ["found a huge number"]),
    "a number of 128 bits": (HEAD + f"training.seed = {2**127}", "training.seed", [f"found {2**127}"]),
    "deep lists": ("x = " + "[" * 5000, "syntax", ["nested deeper"]),
    "deep tables": (".".join("a" * 5000) + " = 3", "a", ["nested deeper"]),
    "deep arguments": (HEAD + "model.arguments.x = " + "[" * 40 + "]" * 40, "model", ["nested deeper"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_scan_file_is_told(case: str) -> None:
    text, where, told = WRONG[case]
    found = problems(text)
    messages = [message for path, message in found if path == where]
    assert messages, found
    assert all(any(part in message for message in messages) for part in told), messages
    assert len(found) == 1, found


def test_resources_that_fit_are_taken() -> None:
    text = HEAD + "training.batch_size = 24\ntraining.accumulation = 3\n"
    found = read(text + "resources = {nodes_per_trial = 2, gpus_per_trial = 4, cpus_per_trial = 8}").resources
    assert (found.processes, found.cpus, found.threads) == (4, 8, 2)
    found = read(text + "resources = {nodes_per_trial = 2, cpus_per_trial = 1}").resources
    assert (found.processes, found.cpus, found.threads) == (2, 2, 1)
    found = read(text + "resources = {gpus_per_trial = 0.5, cpus_per_trial = 3}").resources
    assert (found.processes, found.cpus, found.threads) == (1, 3, 3)


def test_what_is_wrong_with_the_resources_is_told_with_all_else() -> None:
    text = HEAD + "resources = {processes_per_trial = 3, nodes_per_trial = 2, cpus_per_trial = 4, gpus_per_trial = 2}"
    assert sorted(where for where, _ in problems(text + "\nmodel.width = 0")) == [
        "model.width",
        "resources.cpus_per_trial",
        "resources.gpus_per_trial",
        "resources.processes_per_trial",
        "training.batch_size",
    ]
    assert [where for where, _ in problems(HEAD + "resources = {processes_per_trial = 3, cpus_per_trial = 0}")] == [
        "resources.cpus_per_trial",
        "training.batch_size",
    ]


def test_all_problems_are_told_at_once() -> None:
    text = """
    name = "a b"
    modle.width = 3
    data.name = "digit"
    model = {name = "mlp", widht = 3, dropout = 2}
    optimizer = {name = "sgd", nesterov = true, schedule.name = "stp"}
    validation = {folds = 1, replicates = 0}
    selection.metric = "x"
    resources.cpus_per_trial = 0
    [[grid]]
    model.width = [1, 1, 0]
    optimizer.momentum = [0.5, 1.5]
    [[grid]]
    family = "B"
    zip = 3
    model.depth = []
    """
    with pytest.raises(ScanError) as caught:
        read(text, "scan.toml")
    assert sorted({problem.path for problem in caught.value.problems}) == [
        "data.name",
        "grid[0].family",
        "grid[0].model.width[2]",
        "grid[0].optimizer.momentum[1]",
        "grid[1].model.depth",
        "grid[1].zip",
        "model.dropout",
        "model.widht",
        "modle",
        "name",
        "optimizer.nesterov",
        "optimizer.schedule.name",
        "resources.cpus_per_trial",
        "selection.metric",
        "training.epochs",
        "validation.folds",
        "validation.replicates",
    ]
    assert str(caught.value).startswith("scan.toml: ")
    assert caught.value.exit_code == 2


def test_a_problem_of_the_whole_scan_is_told_once_for_all_families() -> None:
    assert len(problems(HEAD + "model.width = 0\n" + GRID + GRID.replace("A", "B"))) == 1


# ------------------------------------------------------------------------------------------------ a user's functions


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module of a user's, in the working folder."""
    text = """
def model(width, input_shape, classes, *, depth=2, act=None, kernel=[3, 3], pair=(1, 2), seed=0): ...
def free(**arguments): ...
def data(root, seed, size=3): ...
class Task:
    def __init__(self, classes, weight=1.0): ...
def train(learning_rate, momentum=0.0, *, fold, folds, replicate, epochs, device, data_root, seed): yield {}
number = 3
"""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users_own.py").write_text(text)
    yield "users_own"
    sys.modules.pop("users_own", None)


TRAIN = """
name = "own"
training.function = "users_own:train"
training.metrics = ["reward", "val_loss"]
training.epochs = 3
training.arguments.learning_rate = 0.1
"""


def test_arguments_include_the_defaults_of_the_signature(module: str) -> None:
    scan = read(HEAD.replace('"mlp"', f'"{module}:model"') + "model.arguments.width = 8")
    assert only(scan, "model") == [{"name": "users_own:model", "arguments": {"width": 8, "depth": 2, "kernel": [3, 3]}}]


def test_a_default_written_out_is_the_same_configuration(module: str) -> None:
    text = HEAD.replace('"mlp"', f'"{module}:model"') + "model.arguments.width = 8\n"
    assert keys(read(text)) == keys(read(text + "model.arguments.depth = 2\nmodel.arguments.kernel = [3, 3]"))


def test_arguments_keep_their_toml_type(module: str) -> None:
    text = HEAD.replace('"mlp"', f'"{module}:model"') + GRID + "model.arguments.width = [1, 1.0, true, '1', [1], [[1]]]"
    widths = only(read(text), "model.arguments.width")
    assert [repr(width) for width in widths] == ["1", "1.0", "True", "'1'", "[1]", "[[1]]"]


def test_every_list_among_the_arguments_in_a_grid_is_an_axis(module: str) -> None:
    text = HEAD.replace('"mlp"', f'"{module}:free"') + GRID + "model.arguments = {a = [1, 2], b = {c = [3, 4], d = 5}}"
    found = only(read(text), "model.arguments")
    assert found == [{"a": a, "b": {"c": c, "d": 5}} for a in (1, 2) for c in (3, 4)]


TASK = 'task.name = "users_own:Task"\ntask.metrics = ["size_error", "f1"]\n'


def test_a_task_of_a_users_own_brings_arguments_and_metrics(module: str) -> None:
    scan = read(HEAD + TASK)
    expected = {"name": "users_own:Task", "arguments": {"weight": 1.0}, "metrics": ["size_error", "f1"]}
    assert only(scan, "task") == [expected]
    assert metrics(scan.grids)[-4:] == ["val_size_error", "val_f1", "test_size_error", "test_f1"]
    assert read(HEAD + TASK + 'selection.metric = "val_size_error"').metric == "val_size_error"
    assert scan.metric == "val_accuracy"
    assert metrics(read(HEAD).grids) == list(METRICS)


@pytest.mark.parametrize(
    ("more", "where", "told"),
    [
        (
            'task.metrics = ["loss"]',
            "task.metrics",
            '"val_loss" is a column of nnscan',
        ),
        ('task.metrics = ["a", "a"]', "task.metrics", '"a" stands there twice.'),
        ('task.metrics = ["a b"]', "task.metrics", 'found "a b"; accepted: letters, digits and _ / -'),
        ("task.arguments.classes = 3", "task.arguments.classes", "'classes' is nnscan's to pass"),
        ("task.arguments.wieght = 3", "task.arguments.wieght", 'Did you mean "weight"?'),
        ('selection.metric = "test_f1"', "selection.metric", 'found "test_f1"; training tells: train_loss'),
        (GRID + 'task.metrics = [["a"], ["b"]]', "task.metrics (family", "cannot be an axis"),
    ],
    ids=lambda value: "" if " " in value else value,
)
def test_what_is_wrong_with_a_task_is_told(module: str, more: str, where: str, told: str) -> None:
    text = HEAD + TASK.replace(TASK.splitlines()[1], "") + more if "task.metrics" in more else HEAD + TASK + more
    found = problems(text)
    assert any(path.startswith(where) and told in message for path, message in found), found


PAIRS = HEAD.replace('"digits"', '"mnist_pairs"').replace('"mlp"', '"siamese"') + 'task.name = "pairs"\n'


def test_pairs_of_digits_are_a_scan_of_their_own() -> None:
    (found,) = only(read(PAIRS), "task")
    assert found == {"name": "pairs", "head_weight": 1.0, "digit_weight": 10**-0.5, "prediction": "head"}
    (data,) = only(read(PAIRS), "data")
    assert (data["pairs"], data["test_pairs"]) == (1000, 1000)
    assert read(PAIRS + 'selection.metric = "val_comparison_accuracy"').metric == "val_comparison_accuracy"
    both = PAIRS.replace('task.name = "pairs"', "") + GRID + 'zip = ["task.name", "model.name"]\n'
    assert len(keys(read(both + 'task.name = ["pairs", "classification"]\nmodel.name = ["siamese", "pair"]'))) == 2


@pytest.mark.parametrize(
    ("text", "where", "told"),
    [
        (PAIRS.replace("mnist_pairs", "mnist"), "task.name", 'compares two digits; "mnist" has one. Set data.name'),
        (PAIRS.replace("siamese", "pair"), "task.name", '"pair" has one. Accepted with it: "classification"'),
        (
            PAIRS.replace('task.name = "pairs"', ""),
            "task.name",
            '"siamese" has three outputs. Accepted with it: "pairs"',
        ),
        (HEAD.replace("mlp", "pair"), "model.name", 'found "pair", which compares two images; "digits" has one'),
        (PAIRS + "data.pairs = 30001", "data.pairs", "accepted: a whole number at least 1 and at most 30000"),
        (PAIRS + "data.test_pairs = 5001", "data.test_pairs", "accepted: a whole number at least 1 and at most 5000"),
        (PAIRS + "task.head_weight = 0\ntask.digit_weight = 0", "task.head_weight", "nothing would be trained"),
        (PAIRS + 'data.normalization = "imagenet"', "data.normalization", '"mnist_pairs" has two'),
    ],
    ids=["data", "pair", "siamese", "one image", "pairs", "test pairs", "weights", "imagenet"],
)
def test_what_is_wrong_with_pairs_is_told(text: str, where: str, told: str) -> None:
    found = problems(text)
    assert any(path == where and told in message for path, message in found), found


def test_a_function_without_arguments_has_an_empty_table(module: str) -> None:
    assert only(read(HEAD.replace('"mlp"', f'"{module}:free"')), "model.arguments") == [{}]


def test_a_training_function_leaves_the_other_tables_empty(module: str) -> None:
    scan = read(TRAIN + "validation.folds = 3")
    (configuration,) = configurations(scan)
    assert configuration.settings == {
        "data": {},
        "model": {},
        "optimizer": {},
        "task": {},
        "training": {
            "function": "users_own:train",
            "arguments": {"learning_rate": 0.1, "momentum": 0.0},
            "metrics": ["reward", "val_loss"],
            "epochs": 3,
            "seed": 0,
        },
        "validation": {"folds": 3, "stratified": True},
    }
    assert scan.metric == "reward"


OWN: dict[str, tuple[str, str, list[str]]] = {
    "unknown argument": (
        HEAD.replace('"mlp"', '"users_own:model"') + "model.arguments = {width = 1, dept = 3}",
        "model.arguments.dept",
        ['Did you mean "depth"?', "width"],
    ),
    "missing argument": (HEAD.replace('"mlp"', '"users_own:model"'), "model.arguments.width", ["missing"]),
    "argument that nnscan passes": (
        HEAD.replace('"mlp"', '"users_own:model"') + "model.arguments = {width = 1, seed = 3}",
        "model.arguments.seed",
        ["nnscan's to pass"],
    ),
    "argument that is a date": (
        HEAD.replace('"mlp"', '"users_own:model"') + "model.arguments.width = 2020-01-01",
        "model.arguments.width",
        ["date"],
    ),
    "argument that is infinite": (
        HEAD.replace('"mlp"', '"users_own:model"') + GRID + "model.arguments.width = [1, inf]",
        "grid[0].model.arguments.width[1]",
        ["finite"],
    ),
    "argument of 65 bits": (
        HEAD.replace('"mlp"', '"users_own:model"') + f"model.arguments.width = {2**64}",
        "model.arguments.width",
        ["64 bits"],
    ),
    "arguments that are no table": (
        HEAD.replace('"mlp"', '"users_own:free"') + "model.arguments = 3",
        "model.arguments",
        ["a table"],
    ),
    "option of a function outside of arguments": (
        HEAD.replace('"mlp"', '"users_own:free"') + "model.width = 3",
        "model.width",
        ["arguments"],
    ),
    "no function": (HEAD.replace('"mlp"', '"users_own:number"'), "model.name", ["cannot be called"]),
    "absent function": (HEAD.replace('"mlp"', '"users_own:absent"'), "model.name", ["AttributeError"]),
    "absent data function": (HEAD.replace('"digits"', '"users_own:absent"'), "data.name", ["AttributeError"]),
    "model beside a training function": (TRAIN + 'model.name = "mlp"', "model.name", ["leave it out"]),
    "a training function on several processes": (
        TRAIN + "resources.processes_per_trial = 2",
        "training.function",
        ["one process", "makes 2 of a trial", "resources.processes_per_trial = 1"],
    ),
    "a training function with several GPUs": (
        TRAIN + "resources.gpus_per_trial = 2",
        "training.function",
        ["one process", "at most one GPU"],
    ),
    "own option with a training function": (
        TRAIN + "training.batch_size = 3",
        "training.batch_size",
        ["does not take"],
    ),
    "metrics missing": (TRAIN.replace("training.metrics", "#"), "training.metrics", ["missing"]),
    "no metrics": (TRAIN.replace('["reward", "val_loss"]', "[]"), "training.metrics", ["at least 1"]),
    "metric twice": (TRAIN.replace("val_loss", "reward"), "training.metrics", ["twice"]),
    "metric that is a column": (TRAIN.replace("val_loss", "score"), "training.metrics", ["column"]),
    "metric with a dot": (TRAIN.replace("val_loss", "val.loss"), "training.metrics", ['found "val.loss"']),
    "metric that is not yielded": (TRAIN + 'selection.metric = "val_accuracy"', "selection.metric", ["reward"]),
    "metrics as an axis": (
        TRAIN.replace("training.metrics", "#") + GRID + 'training.metrics = [["a"], ["b"]]',
        'training.metrics (family "A")',
        ["axis"],
    ),
    "broken path": (
        TRAIN.replace("users_own:train", "users_own.train"),
        "training.function",
        ["package.module:function"],
    ),
}


@pytest.mark.parametrize("case", OWN)
def test_a_wrong_use_of_a_users_function_is_told(case: str, module: str) -> None:
    text, where, told = OWN[case]
    found = problems(text)
    messages = [message for path, message in found if path == where]
    assert messages, found
    assert all(any(part in message for message in messages) for part in told), messages
    assert len(found) == 1, found


def test_what_a_module_throws_is_told(module: str, tmp_path: Path) -> None:
    (tmp_path / "users_broken.py").write_text("raise SystemExit('bye')\n")
    assert problems(HEAD.replace('"mlp"', '"users_broken:f"'))[0][0] == "model.name"


@pytest.mark.parametrize(
    ("name", "told"), [("resnet19", '"torchvision:resnet18"'), ("fasterrcnn_resnet50_fpn", "no such classifier")]
)
def test_a_network_that_torchvision_lacks_is_told(name: str, told: str) -> None:
    ((where, message),) = problems(HEAD.replace('"mlp"', f'"torchvision:{name}"'))
    assert where == "model.name"
    assert told in message


def test_weights_that_torchvision_lacks_are_told() -> None:
    text = HEAD.replace('"mlp"', '"torchvision:resnet18"') + GRID + 'model.weights = ["none", "IMAGENET1K_V9"]'
    ((where, message),) = problems(text)
    assert where == "grid[0].model.weights[1]"
    assert "IMAGENET1K_V1" in message


def test_weights_of_torchvision_are_taken() -> None:
    text = HEAD.replace('"mlp"', '"torchvision:resnet18"\nmodel.weights = "IMAGENET1K_V1"')
    assert only(read(text), "model") == [{"name": "torchvision:resnet18", "weights": "IMAGENET1K_V1", "input_size": 0}]


# ------------------------------------------------------------------------------------------------ --set, --grid

FAMILIES = (
    HEAD
    + """
[[grid]]
family = "A"
model.width = [1, 2]
training.epochs = [5, 6]
[[grid]]
family = "B"
optimizer.learning_rate = 0.5
"""
)


@pytest.mark.parametrize(
    ("override", "path", "values"),
    [
        ("model.width=7", "model.width", [7, 7, 7]),
        ("training.epochs=7", "training.epochs", [7, 7, 7]),
        ("A:training.epochs=7", "training.epochs", [7, 7, 3]),
        ("model.width=7", "training.epochs", [5, 6, 3]),
        ("B:model.width=7", "model.width", [1, 1, 2, 2, 7]),
        ("B:model.width=[7, 8]", "model.width", [1, 1, 2, 2, 7, 8]),
        ("optimizer.learning_rate = 1e-3", "optimizer.learning_rate", [0.001] * 5),
        ("optimizer.schedule.name=cosine", "optimizer.schedule.name", ["cosine"] * 5),
        ('optimizer.schedule={name="step",every=2}', "optimizer.schedule.every", [2] * 5),
        ("data.augmentation.horizontal_flip=true", "data.augmentation.horizontal_flip", [True] * 5),
    ],
)
def test_set_overrides(override: str, path: str, values: list[Any]) -> None:
    assert only(read(FAMILIES, overrides=[override]), path) == values


def test_set_with_a_list_of_values_is_told_what_to_do() -> None:
    ((where, message),) = problems(FAMILIES, overrides=["model.width=[7, 8]"])
    assert where == "--set model.width"
    assert "--grid" in message


@pytest.mark.parametrize(
    ("axis", "path", "values"),
    [
        ("training.seed=0,1", "training.seed", [0, 1] * 4 + [0, 1]),
        ("A:training.seed=0,1", "training.seed", [0, 1] * 4 + [0]),
        ("training.epochs=9", "training.epochs", [9, 9, 9]),
        ("optimizer.name=sgd,adam", "optimizer.name", ["sgd", "adam"] * 5),
        ("model.activation='relu','tanh'", "model.activation", ["relu", "tanh"] * 5),
    ],
)
def test_grid_replaces_or_adds_an_axis(axis: str, path: str, values: list[Any]) -> None:
    assert only(read(FAMILIES, axes=[axis]), path) == values


def test_grid_replaces_an_axis_where_it_stands() -> None:
    scan = read(FAMILIES, axes=["A:model.width=3,4,5"])
    assert only(scan, "model.width") == [3, 3, 4, 4, 5, 5, 64]


def test_grid_makes_a_grid_of_a_scan_without_one() -> None:
    scan = read(HEAD, axes=["model.width=1,2", "model.depth=1,2"])
    assert scan.families == ("test",)
    assert only(scan, "model.width") == [1, 1, 2, 2]


def test_grid_takes_lists_as_values() -> None:
    scan = read(HEAD.replace("mlp", "cnn"), axes=["model.channels=[8,16],[32]"])
    assert only(scan, "model.channels") == [[8, 16], [32]]


def test_set_reaches_what_holds_for_the_whole_scan() -> None:
    overrides = ["name=other", "validation.folds=4", "selection.metric=val_loss", "resources.cpus_per_trial=2"]
    scan = read(HEAD, overrides=overrides)
    assert (scan.name, scan.folds, scan.metric, scan.resources.cpus_per_trial) == ("other", 4, "val_loss", 2)


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"overrides": ["model.width"]}, "--set model.width"),
        ({"overrides": ["=3"]}, "--set =3"),
        ({"overrides": ["a b=3"]}, "--set a b=3"),
        ({"overrides": ["x\ny=3"]}, "--set x\ny=3"),
        ({"overrides": ["modle.width=3"]}, "--set modle.width"),
        ({"overrides": ["model.widht=3"]}, "--set model.widht"),
        ({"overrides": ["model.width=0"]}, "--set model.width"),
        ({"overrides": ["C:model.width=3"]}, "--set model.width"),
        ({"overrides": ["A:validation.folds=3"]}, "--set validation.folds"),
        ({"overrides": ["grid=3"]}, "--set grid=3"),
        ({"axes": ["model.width"]}, "--grid model.width"),
        ({"axes": ["model.width="]}, "--grid model.width"),
        ({"axes": ["model.width=1,x"]}, "--grid model.width[1]"),
        ({"axes": ["validation.folds=3,4"]}, "--grid validation.folds"),
        ({"axes": ["data.root=a,b"]}, "--grid data.root"),
        ({"axes": ["C:model.width=3"]}, "--grid model.width"),
        ({"axes": ["A:=3"]}, "--grid A:=3"),
        ({"overrides": ["\udcff=\udcff"]}, "--set \udcff=\udcff"),
    ],
)
def test_wrong_options_are_told(options: dict[str, list[str]], where: str) -> None:
    assert [path for path, _ in problems(FAMILIES, **options)] == [where]


# ------------------------------------------------------------------------------------------------ what a scan says


def test_a_scan_without_a_grid_is_one_configuration_of_a_family_with_its_name() -> None:
    scan = read(HEAD)
    assert [configuration.family for configuration in configurations(scan)] == ["test"]
    assert (scan.folds, scan.replicates, scan.metric, scan.data_root) == (1, 1, "val_accuracy", None)


def test_dotted_keys_and_tables_are_alike() -> None:
    nested = """
    name = "test"
    data = {name = "digits"}
    [model]
    name = "mlp"
    [optimizer]
    name = "sgd"
    [training]
    epochs = 3
    [[grid]]
    family = "A"
    [grid.model]
    width = [1, 2]
    [grid.optimizer.schedule]
    name = "cosine"
    """
    text = HEAD + GRID + 'model.width = [1, 2]\noptimizer.schedule.name = "cosine"'
    assert keys(read(nested)) == keys(read(text))


@pytest.mark.parametrize(
    ("root", "data_root", "expected"),
    [
        (None, None, None),
        (None, "there", "/w/there"),
        ("x", None, "/w/x"),
        ("x", "there", "/w/there/x"),
        ("x", "/there", "/there/x"),
        ("/x", "/there", "/x"),
    ],
)
def test_the_data_root(root: str | None, data_root: str | None, expected: str | None, tmp_path: Path) -> None:
    text = HEAD + (f'data.root = "{root}"' if root else "")
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        found = read(text, data_root=data_root).data_root
    finally:
        os.chdir(here)
    assert found == (None if expected is None else Path(expected.replace("/w", str(tmp_path))))


ROUND_TRIPS = {
    "one point": HEAD,
    "families": FAMILIES,
    "digits": find_scan_file().read_text(),
    "names, zipped": HEAD
    + """
    [validation]
    folds = 3
    replicates = 2
    [resources]
    gpus_per_trial = 0.5
    [[grid]]
    family = "A"
    zip = [["optimizer.name", "optimizer.learning_rate"]]
    optimizer.name = ["sgd", "adamw"]
    optimizer.learning_rate = [1, 0.001]
    model.name = ["mlp", "cnn"]
    [[grid]]
    family = "A"
    model.name = "cnn"
    model.channels = [8, 16]
    [[grid]]
    family = "B"
    model.name = "cnn"
    model.channels = [[8, 16], [4]]
    data.augmentation.cutout = [0, 2]
    """,
    "arguments": HEAD.replace('"mlp"', '"users_own:free"')
    + """
    model.arguments = {a = [1, 2], "b c" = 'x"\\', d = {e = [true, 1.5]}}
    [[grid]]
    family = "A"
    model.arguments.a = [[1], [2, 3], 4]
    [[grid]]
    family = "B"
    model.arguments.f = [[1, 2]]
    """,
    "training function": TRAIN + GRID + "training.arguments.momentum = [0, 0.0, 0.5]\n",
}


@pytest.mark.parametrize("case", ROUND_TRIPS)
def test_the_written_scan_gives_the_same_configurations(case: str, module: str) -> None:
    scan = read(ROUND_TRIPS[case], data_root="data")
    again = read(scan.toml())
    assert keys(again) == keys(scan)
    fields = ("name", "replicates", "metric", "resources", "data_root", "validation", "folds", "families")
    assert [getattr(again, field) for field in fields] == [getattr(scan, field) for field in fields]
    assert again.toml() == scan.toml()


def test_the_written_scan_holds_every_default_and_what_was_set_on_the_command_line() -> None:
    text = read(FAMILIES, overrides=["optimizer.momentum=0.25"], axes=["model.depth=1,2"]).toml()
    for line in ("momentum = 0.25", "nesterov = false", "model.depth = [1, 2]", 'metric = "val_accuracy"'):
        assert line in text


# ------------------------------------------------------------------------------------------------ files


def test_the_digits_scan_is_the_default() -> None:
    assert load().name == "digits"
    assert find_scan_file() == find_scan_file(None)


def test_a_scan_is_found_by_path_and_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "mine.toml").write_text(HEAD)
    (tmp_path / "other.toml").write_text(HEAD)
    assert find_scan_file("mine") == Path("jobs/mine.toml")
    assert find_scan_file("mine.toml") == Path("jobs/mine.toml")
    assert find_scan_file("jobs/mine.toml") == Path("jobs/mine.toml")
    assert find_scan_file("other.toml") == Path("other.toml")
    assert find_scan_file("digits").name == "digits.toml"
    assert load(Path("other.toml")).name == "test"


def test_packaged_jobs_come_before_those_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnscan.scan.PACKAGED_JOBS", tmp_path)
    (tmp_path / "digits.toml").write_text(HEAD)
    assert find_scan_file() == tmp_path / "digits.toml"
    assert PACKAGED_JOBS.name == "jobs"


def test_the_name_of_the_file_is_the_default_name(tmp_path: Path) -> None:
    path = tmp_path / "my-scan.toml"
    path.write_text(HEAD.replace('name = "test"\n', "", 1))
    assert load(path).name == "my-scan"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is no file"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "no UTF-8 text"),
        (lambda path: os.mkfifo(path), "is no file"),
        (lambda path: path.symlink_to(path), "no such file"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**40), "larger than"),
    ],
    ids=["missing", "folder", "binary", "pipe", "link to itself", "huge"],
)
def test_a_file_that_cannot_be_read_is_told(make: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    make(path)
    with pytest.raises(ScanError, match=told) as caught:
        load(path)
    assert str(path) in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(HEAD)
    path.chmod(0)
    with pytest.raises(ScanError, match="cannot be read"):
        load(path)


@pytest.mark.parametrize("name", ["digit", "a\0b", "x" * 5000, "", ".", "/"])
def test_a_name_that_means_no_scan_is_told(name: str) -> None:
    with pytest.raises(ScanError) as caught:
        load(name)
    if name == "digit":
        assert 'Did you mean "digits"?' in str(caught.value)


def test_loading_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load()
    assert list(tmp_path.iterdir()) == []


def test_loading_a_scan_imports_neither_torch_nor_ray() -> None:
    import subprocess

    code = (
        "import sys, nnscan; nnscan.load(); print(sorted({'torch', 'ray', 'sklearn', 'torchvision'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ------------------------------------------------------------------------------------------------ anything at all


SOME_KEYS = """
    name data model optimizer training task validation selection resources grid zip family arguments metrics function
    folds holdout replicates stratified root schedule every early_stopping patience monitor augmentation cutout width
    depth channels betas learning_rate momentum nesterov epochs batch_size seed test metric loss size x
"""
KEYS = st.sampled_from(SOME_KEYS.split()) | st.text(string.ascii_letters + string.digits + '._- "\n\x00ü', max_size=4)
SOME_WORDS = """
    digits mlp cnn sgd adam step cosine constant classification mse val_loss os:path os.path:join absent_module:f
    nnscan.scan:read builtins:dict image_folder model.width optimizer.learning_rate A B none
"""
WORDS = st.sampled_from(SOME_WORDS.split())
ANYTHING = st.recursive(
    WORDS
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.times()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)
TABLES = st.dictionaries(KEYS, ANYTHING, max_size=6)
GRIDS = st.lists(TABLES, max_size=2)
OPTIONS = st.lists(st.builds("{}{}={}".format, st.sampled_from(["", "A:"]), KEYS, WORDS), max_size=2)


def written(value: Any) -> str:
    """Anything as TOML, dates, infinity and NaN included."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml.key([key])} = {written(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, bool | str):
        return toml.value(value)
    return value.isoformat() if hasattr(value, "isoformat") else repr(value)


def read_whatever(text: str, overrides: list[str], axes: list[str]) -> None:
    """Read; a file that happens to be right must also expand."""
    try:
        scan = read(text, "scan.toml", overrides=overrides, axes=axes)
    except ScanError as error:
        assert error.problems
        assert str(error)
    else:
        assert next(configurations(scan)).key


fuzz = examples(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@fuzz
@given(TABLES, GRIDS, OPTIONS, OPTIONS)
def test_any_tables_are_read_or_told(
    tables: dict[str, Any], grids: list[dict[str, Any]], overrides: list[str], axes: list[str]
) -> None:
    read_whatever(
        "\n".join(f"{toml.key([key])} = {written(value)}" for key, value in ({"grid": grids} | tables).items()),
        overrides,
        axes,
    )


@fuzz
@given(st.lists(st.tuples(st.sampled_from(HEAD.split() + GRID.split()), KEYS, ANYTHING), max_size=6), GRIDS)
def test_any_addition_to_a_right_file_is_read_or_told(
    lines: list[tuple[str, str, Any]], grids: list[dict[str, Any]]
) -> None:
    added = [f"{table.split('.')[0].strip('[]')}.{toml.key([key])} = {written(value)}" for table, key, value in lines]
    tables = [f"[[grid]]\n{toml.key([key])} = {written(value)}" for grid in grids for key, value in grid.items()]
    read_whatever("\n".join([HEAD, *added, *tables]), [], [])


@fuzz
@given(st.text() | st.binary().map(lambda content: content.decode("latin-1")), OPTIONS)
def test_any_text_is_read_or_told(text: str, overrides: list[str]) -> None:
    read_whatever(text, overrides, [])
    read_whatever(HEAD + text, overrides, [])


@fuzz
@given(st.data())
def test_any_damage_to_a_right_file_is_read_or_told(data: st.DataObject) -> None:
    text = ROUND_TRIPS["names, zipped"]
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 20)))
    read_whatever(text[:start] + data.draw(st.text(max_size=5) | WORDS) + text[stop:], [], [])
