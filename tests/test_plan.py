import sys
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nnscan.errors import StoreError
from nnscan.grid import configurations
from nnscan.identity import completed, configuration_key, trial_key
from nnscan.plan import Plan, expand, read_axes, read_settings
from nnscan.results.folder import ScanFolder
from nnscan.results.schema import hyperparameters
from nnscan.scan import Scan, load, read
from nnscan.trial import Kind

TEXT = """
name = "test"
validation.folds = 3
validation.replicates = 2
data.name = "digits"
model.name = "mlp"
training.epochs = 3
[[grid]]
family = "A"
optimizer.name = ["sgd", "adam"]
model.width = [1, 2]
[[grid]]
family = "B"
optimizer.name = "sgd"
model.width = [2, 5]
"""


@pytest.fixture(scope="module")
def scan() -> Scan:
    return read(TEXT)


@pytest.fixture(scope="module")
def plan(scan: Scan) -> Plan:
    return expand(scan)


def test_a_row_a_family_configuration_replicate_and_fold_the_fold_fastest(scan: Scan, plan: Plan) -> None:
    expected = [
        (c.family, c.key, c.text, replicate, fold)
        for c, replicate, fold in product(configurations(scan), (0, 1), (0, 1, 2))
    ]
    columns = ("family", "configuration", "settings", "replicate", "fold")
    assert list(zip(*(plan.table[name].to_pylist() for name in columns), strict=True)) == expected


def test_keys_are_those_of_configurations_and_trials(plan: Plan) -> None:
    for trial in plan.trials():
        assert trial.configuration == configuration_key(trial.settings)
        assert trial.key == trial_key(
            trial.configuration, kind=Kind.TRIAL, epochs=0, fold=trial.fold, replicate=trial.replicate
        )


def test_a_trial_in_two_families_comes_once_with_both(plan: Plan) -> None:
    trials = list(plan.trials())
    assert len({trial.key for trial in trials}) == len(trials) == 5 * 6
    assert len(plan.table) == 6 * 6
    both = [trial for trial in trials if len(trial.families) == 2]
    assert {(t.settings["model"]["width"], t.settings["optimizer"]["name"], t.families) for t in both} == {
        (2, "sgd", ("A", "B"))
    }
    assert len(both) == 6


def test_keys_are_those_of_the_trials_in_their_order(plan: Plan) -> None:
    assert plan.keys().to_pylist() == [trial.key for trial in plan.trials()]


def test_trials_of_some_keys_with_their_attempts(plan: Plan) -> None:
    keys = plan.keys().to_pylist()
    wanted = [keys[7], keys[2], "unknown"]
    trials = list(plan.trials(wanted, {keys[7]: 2}))
    assert [(trial.key, trial.attempts) for trial in trials] == [(keys[2], 0), (keys[7], 2)]
    assert [trial.key for trial in plan.trials(pa.array(wanted))] == [keys[2], keys[7]]
    assert list(plan.trials([])) == []


def test_a_trial_says_how_long_it_trains(plan: Plan) -> None:
    assert {(trial.epochs, trial.kind, trial.attempts) for trial in plan.trials()} == {(3, Kind.TRIAL, 0)}


def test_axes_of_each_family(plan: Plan) -> None:
    assert plan.axes("A") == {
        "optimizer.name": ["sgd", "adam"],
        "model.width": [1, 2],
        "optimizer.learning_rate": [0.01, 0.001],
    }
    assert plan.axes("B") == {"model.width": [2, 5]}


def test_schemas_have_a_column_for_every_hyperparameter(scan: Scan, plan: Plan) -> None:
    expected = hyperparameters(completed(configuration.settings) for configuration in configurations(scan))
    assert plan.schemas().hyperparameters == expected
    assert "val_accuracy" in plan.schemas().metrics


def test_a_hold_out_is_one_trial_a_replicate() -> None:
    plan = expand(
        read('name = "x"\ndata.name = "digits"\nmodel.name = "mlp"\noptimizer.name = "sgd"\ntraining.epochs = 1')
    )
    assert [(trial.fold, trial.replicate) for trial in plan.trials()] == [(0, 0)]


def test_more_replicates_and_values_keep_the_keys_of_the_others(plan: Plan) -> None:
    more = expand(read(TEXT.replace("replicates = 2", "replicates = 3").replace("[2, 5]", "[2, 5, 7]")))
    assert set(plan.keys().to_pylist()) < set(more.keys().to_pylist())


def test_a_plan_reads_back(plan: Plan, tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    plan.write(folder)
    again = Plan.read(folder)
    assert again.table.to_pylist() == plan.table.to_pylist()
    assert again.axes("A") == plan.axes("A")
    assert again.schemas() == plan.schemas()
    assert list(again.trials()) == list(plan.trials())
    assert [path.name for path in tmp_path.iterdir()] == ["plan.parquet"]


@pytest.mark.parametrize("content", [None, b"", b"PAR1 nonsense"], ids=["missing", "empty", "torn"])
def test_a_plan_that_does_not_read_is_an_error(content: bytes | None, tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    if content is not None:
        folder.plan.write_bytes(content)
    with pytest.raises(StoreError, match=r"plan\.parquet"):
        Plan.read(folder)


def test_another_table_is_no_plan(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    pq.write_table(pa.table({"key": ["a"]}), folder.plan)
    with pytest.raises(StoreError, match="other columns"):
        Plan.read(folder)


def test_a_plan_that_cannot_be_written_is_an_error(plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        plan.write(ScanFolder(tmp_path / "absent"))


def test_the_settings_of_a_large_plan_are_stored_once_each(tmp_path: Path) -> None:
    text = TEXT.replace("model.width = [1, 2]", f"model.width = {list(range(1, 3001))}")
    folder = ScanFolder(tmp_path)
    plan = expand(read(text))
    plan.write(folder)
    groups = pq.ParquetFile(folder.plan).metadata
    settings = [groups.row_group(index).column(5) for index in range(groups.num_row_groups)]
    texts = 6002 * 650  # each row's text would be six times that
    assert sum(column.total_uncompressed_size for column in settings) < texts
    assert Plan.read(folder).table.to_pylist() == plan.table.to_pylist()


def test_settings_and_axes_are_read_without_the_rest(scan: Scan, tmp_path: Path) -> None:
    text = TEXT.replace("model.width = [1, 2]", f"model.width = {list(range(1, 3001))}")
    folder = ScanFolder(tmp_path)
    large = read(text)
    plan = expand(large)
    plan.write(folder)
    points = {point.key: point.settings for point in configurations(large)}
    wanted = [next(iter(points)), list(points)[-1], "f" * 32]
    assert read_settings(folder, wanted) == {key: points[key] for key in wanted[:2]}
    assert read_settings(folder, []) == {}
    assert read_axes(folder) == {family: tuple(plan.axes(family)) for family in ("A", "B")}


def test_the_digits_scan_is_24_trials_of_two_families() -> None:
    plan = expand(load())
    assert len(plan.keys()) == 24
    assert plan.table["family"].unique().to_pylist() == ["MLP", "CNN"]


def test_reading_a_plan_imports_neither_torch_nor_pydantic() -> None:
    import subprocess

    code = "import sys, nnscan.plan; print(sorted({'torch', 'ray', 'pydantic', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
