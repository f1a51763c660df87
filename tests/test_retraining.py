from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scan_by_hand import END, GRID, PLACE, key_of, start_of, write_scan
from scans import TESTS, function_scan, run

from nnscan.errors import ScanError
from nnscan.grid import configurations
from nnscan.identity import configuration_key
from nnscan.launch_options import LaunchOptions
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer
from nnscan.results.summary import summarize_folder
from nnscan.retraining import RetrainOptions, RetrainOutcome, choose, retrain_best
from nnscan.scan import Scan, read
from nnscan.trial import Kind

NETWORK = """
name = "networks"
[data]
name = "digits"
[validation]
folds = 2
[training]
epochs = 2
[model]
name = "mlp"
width = 8
[optimizer]
name = "adam"
"""


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)


def networks(**rates: list[float]) -> Scan:
    """A family of networks for each list of learning rates: 0.01 learns, 1e-8 does not."""
    grids = (f'[[grid]]\nfamily = "{name}"\noptimizer.learning_rate = {list(of)}\n' for name, of in rates.items())
    return read(NETWORK + "".join(grids))


def retrain(folder: ScanFolder, **asked: Any) -> RetrainOutcome:
    return retrain_best(folder, RetrainOptions(**asked))


def card(folder: ScanFolder, family: str) -> dict[str, Any]:
    return json.loads((folder.models / family / "model.json").read_text())  # type: ignore[no-any-return]


def weights(folder: ScanFolder, family: str) -> bytes:
    return (folder.models / family / "model.safetensors").read_bytes()


def retrainings(folder: ScanFolder) -> list[dict[str, Any]]:
    table = store.read_trials(folder)
    return list(table.filter(pc.equal(table["kind"], "retraining")).to_pylist())


def test_families_that_share_a_winner_share_a_retraining_and_have_a_model_each(tmp_path: Path) -> None:
    folder = run(networks(A=[1e-8, 0.01], B=[0.01, 1e-7]), tmp_path).folder
    done = retrain(folder)
    assert (done.outcome.launched, done.exit_code) == (1, 0)
    assert sorted(done.models) == ["A", "B"]
    assert weights(folder, "A") == weights(folder, "B")
    (row,) = retrainings(folder)
    assert row["optimizer.learning_rate"] == 0.01
    assert {choice.leader.configuration for choice in done.choices} == {row["configuration"]}
    again = retrain(folder)
    assert (again.outcome.launched, again.exit_code, sorted(again.models)) == (0, 0, ["A", "B"])


def test_a_retraining_is_tested_once_and_its_model_tells_how_it_did(tmp_path: Path) -> None:
    folder = run(networks(A=[0.01]), tmp_path).folder
    done = retrain(folder)
    (row,) = retrainings(folder)
    predictions = pq.read_table(folder.models / "A" / "predictions.parquet")
    hits = pc.equal(predictions["prediction"], predictions["label"])
    assert row["test_accuracy"] == pc.mean(hits).as_py()
    assert (row["val_accuracy"], row["score"], row["best_epoch"], row["fold"]) == (None, None, None, 0)
    assert card(folder, "A")["results"]["test_accuracy"] == row["test_accuracy"]
    (retrained,) = done.retrained
    assert (retrained.test_accuracy, retrained.winner, retrained.family) == (row["test_accuracy"], True, "A")
    assert len(store.read_epochs(folder, [row["trial"]])) == row["epochs"] == done.choices[0].epochs


def test_replicates_of_a_retraining_draw_anew_and_the_first_leaves_the_model(tmp_path: Path) -> None:
    folder = run(networks(A=[0.01], B=[0.01]), tmp_path).folder
    alone = retrain(folder, epochs=1)
    first = weights(folder, "A")
    done = retrain(folder, epochs=1, replicates=3)
    assert (alone.outcome.launched, done.outcome.launched, done.exit_code) == (1, 2, 0)
    assert weights(folder, "A") == weights(folder, "B") == first
    rows = sorted(retrainings(folder), key=lambda row: row["replicate"])
    assert [row["replicate"] for row in rows] == [0, 1, 2]
    assert len({row["test_loss"] for row in rows}) == 3
    accuracies = [row["test_accuracy"] for row in rows]
    for one in done.retrained:
        assert (one.replicates, one.trial) == (3, rows[0]["trial"])
        assert one.test_accuracy == pytest.approx(statistics.mean(accuracies))
        assert one.test_accuracy_std == pytest.approx(statistics.stdev(accuracies))
    assert retrain(folder, epochs=1, replicates=3).outcome.launched == 0


def test_a_replicate_that_failed_stands_apart_from_those_that_completed(tmp_path: Path) -> None:
    folder = run(networks(A=[0.01]), tmp_path).folder
    retrain(folder, epochs=1, replicates=2)
    (point,) = configurations(networks(A=[0.01]))
    with store.writing(folder, "b", PLACE) as writer:
        start = {**start_of(point.settings, 0), "kind": "retraining", "epochs": 1, "replicate": 2, "trial": "f" * 32}
        writer.start(start)
        writer.end({**END, "trial": "f" * 32, "status": "failed", "failure": "other", "error": "boom"})
    found = summarize_folder(folder).retrained
    assert [(one.replicates, one.status, one.cause) for one in found] == [(2, "completed", ""), (1, "failed", "boom")]


def test_a_model_folder_that_was_removed_is_made_again_bit_for_bit(tmp_path: Path) -> None:
    folder = run(networks(A=[0.01]), tmp_path).folder
    retrain(folder)
    first = weights(folder, "A")
    shutil.rmtree(folder.models / "A")
    assert retrain(folder).outcome.launched == 1
    assert weights(folder, "A") == first
    assert len(retrainings(folder)) == 1


def test_a_model_folder_without_its_card_is_made_again(tmp_path: Path) -> None:
    folder = run(networks(A=[0.01]), tmp_path).folder
    retrain(folder)
    (folder.models / "A" / "model.json").write_text("{")
    assert retrain(folder).outcome.launched == 1
    assert card(folder, "A")["provenance"]["trial"] == retrainings(folder)[0]["trial"]


def test_a_winner_that_changes_and_changes_back_has_its_model_again(tmp_path: Path) -> None:
    grids = [networks(A=[1e-8]), networks(A=[1e-8, 0.01]), networks(A=[1e-8])]
    models, launched = [], []
    for scan in grids:
        folder = run(scan, tmp_path).folder
        launched.append(retrain(folder, epochs=1).outcome.launched)
        models.append((card(folder, "A")["provenance"]["trial"], weights(folder, "A")))
    assert launched == [1, 1, 1]
    assert models[0] == models[2] != models[1]
    assert retrain(folder, epochs=1).outcome.launched == 0


def test_epochs_that_were_asked_for_are_another_retraining(tmp_path: Path) -> None:
    folder = run(networks(A=[0.01]), tmp_path).folder
    for epochs in (1, 3):
        done = retrain(folder, epochs=epochs)
        assert (done.choices[0].epochs, done.choices[0].curve, done.outcome.launched) == (epochs, None, 1)
        assert card(folder, "A")["results"]["epochs"] == epochs
    assert sorted(row["epochs"] for row in retrainings(folder)) == [1, 3]


def test_only_the_families_asked_for_are_retrained(tmp_path: Path) -> None:
    folder = run(networks(A=[1e-8, 0.01], B=[1e-7]), tmp_path).folder
    assert sorted(retrain(folder, families=["B"], epochs=1).models) == ["B"]
    done = retrain(folder, epochs=1)
    assert (done.outcome.launched, sorted(done.models)) == (1, ["A", "B"])


def test_it_trains_to_the_epoch_where_the_mean_curve_is_best(tmp_path: Path) -> None:
    folder = run(function_scan("rising", [0.5], epochs=4), tmp_path).folder
    (choice,) = retrain(folder).choices
    assert choice.curve is not None
    assert (choice.epochs, choice.curve.mean) == (2, 0.5)


def test_a_training_function_is_told_no_fold_and_leaves_no_model(tmp_path: Path) -> None:
    folder = run(function_scan("learn", [0.5, 2.0], folder=str(tmp_path)), tmp_path).folder
    done = retrain(folder)
    assert (done.exit_code, done.outcome.launched, dict(done.models)) == (0, 1, {})
    assert (tmp_path / "notes").read_text().splitlines()[-1] == "0.5 None"
    (row,) = retrainings(folder)
    assert (row["status"], row["epochs_run"], row["val_loss"]) == ("completed", 2, 0.125)
    assert retrain(folder).outcome.launched == 0


def test_a_training_function_that_takes_no_fold_is_refused(tmp_path: Path) -> None:
    folder = run(function_scan("without_fold", [0.5]), tmp_path).folder
    with pytest.raises(ScanError, match="functions:without_fold takes no `fold`"):
        retrain(folder)


def test_pending_trials_are_refused_unless_one_goes_on_without_them(tmp_path: Path) -> None:
    folder = run(function_scan("learn", [0.5, 2.0]), tmp_path, limit=2).folder
    with pytest.raises(ScanError, match=r"2 of 4 trials have no result yet.*--incomplete"):
        retrain(folder)
    assert retrainings(folder) == []
    done = retrain(folder, incomplete=True)
    assert (done.exit_code, len(retrainings(folder))) == (0, 1)


def test_a_family_without_a_winner_is_refused(tmp_path: Path) -> None:
    folder = run(function_scan("throw", [2.0, 3.0], folds=1), tmp_path).folder
    with pytest.raises(ScanError, match="family Own: has no winner"):
        retrain(folder)


def test_a_scan_that_was_never_launched_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="never launched"):
        retrain(ScanFolder(tmp_path))


@pytest.mark.parametrize(("asked", "option"), [({"prefer": "worst"}, "--prefer"), ({"epochs": -1}, "--epochs")])
def test_options_that_mean_nothing_are_refused(asked: dict[str, Any], option: str) -> None:
    with pytest.raises(ScanError, match=option):
        RetrainOptions(**asked)


def test_it_goes_where_the_scan_was_last_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(function_scan("learn", [0.5]), tmp_path).folder
    monkeypatch.chdir(tmp_path)
    assert retrain(folder).exit_code == 0  # inline, and its functions are found from another working folder
    assert retrainings(folder)[0]["host"]


def test_a_retraining_that_fails_is_told_with_what_reruns_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(networks(A=[0.01]), tmp_path).folder
    with monkeypatch.context() as broken:
        broken.setattr("nnscan.training.loop.test", lambda *_: 1 / 0)
        done = retrain(folder)
    assert done.exit_code == 1
    (failed,) = done.outcome.failures
    assert failed.error == "ZeroDivisionError: division by zero"
    scans = tmp_path / "scans"
    assert failed.command == f"nnscan retrain-best networks --family A --cluster inline --scan-dir {scans}"
    again = retrain(folder)
    assert (again.exit_code, again.outcome.launched, sorted(again.models)) == (0, 1, ["A"])


def test_ctrl_c_is_an_outcome(tmp_path: Path) -> None:
    scan = function_scan("interrupt_retraining", [0.5], folder=str(tmp_path))
    folder = run(scan, tmp_path).folder
    assert retrain(folder).exit_code == 130
    assert retrain(folder).exit_code == 0


def test_a_journal_that_a_killed_launch_left_costs_its_trial_no_attempt(tmp_path: Path) -> None:
    folder = run(function_scan("learn", [0.5, 2.0]), tmp_path, limit=3).folder
    (key,) = set(choose_pending(folder))
    writer = Writer(folder, "killed-0", PLACE)
    writer.start({"trial": key, "attempt": 1, "settings": {}})
    retrain(folder, incomplete=True)
    assert key not in store.read_trials(folder, ["trial"])["trial"].to_pylist()


def choose_pending(folder: ScanFolder) -> list[str]:
    planned = pq.read_table(folder.plan, columns=["key"])["key"].to_pylist()
    return [key for key in planned if key not in store.read_trials(folder, ["trial"])["trial"].to_pylist()]


def by_hand(path: Path, scores: dict[int, list[float]]) -> ScanFolder:
    """A scan whose configuration of width `w` has `10 * w` parameters, and these scores in its three folds."""
    points = [point for point in GRID if point["optimizer"]["learning_rate"] == 0.001]
    folder = write_scan(path, points)
    writer = Writer(folder, "b-0", PLACE)
    for point in points:
        width = point["model"]["width"]
        for fold, score in enumerate(scores[width]):
            writer.start(start_of(point, fold))
            end = {**END, "score": score, "parameters": 10 * width, "epochs_run": 2, "metrics": {"val_accuracy": score}}
            writer.end({"trial": key_of(point, fold), **end})
    writer.close()
    return folder


CHOICES = {
    # scores of 32 (cheapest), 64, 128 in three folds; 64 and 128 against 32: within, or beyond, 2.67 s_d
    "tied": ({32: [0.88, 0.90, 0.89], 64: [0.5, 0.5, 0.5], 128: [0.90, 0.90, 0.91]}, 128, 32),
    "apart": ({32: [0.50, 0.51, 0.52], 64: [0.4, 0.4, 0.4], 128: [0.90, 0.91, 0.92]}, 128, 128),
    "alone": ({32: [0.90, 0.91, 0.92], 64: [0.4, 0.4, 0.4], 128: [0.50, 0.51, 0.52]}, 32, 32),
}


@pytest.mark.parametrize(("scores", "best", "cheapest"), CHOICES.values(), ids=CHOICES)
def test_the_cheapest_is_taken_of_those_tied_with_the_winner(
    tmp_path: Path, scores: dict[int, list[float]], best: int, cheapest: int
) -> None:
    folder = by_hand(tmp_path / "s", scores)
    widths = {configuration_key(point): point["model"]["width"] for point in GRID}
    for prefer, expected in (("best", best), ("cheapest", cheapest)):
        (choice,) = choose(folder, RetrainOptions(prefer=prefer, epochs=3))
        assert widths[choice.leader.configuration] == expected


def test_another_place_may_be_asked_for(tmp_path: Path) -> None:
    folder = run(function_scan("learn", [0.5]), tmp_path).folder
    done = retrain_best(folder, RetrainOptions(), LaunchOptions(cluster="inline"))
    assert [row["kind"] for row in retrainings(folder)] == [Kind.RETRAINING.value]
    assert done.exit_code == 0


def test_the_winner_of_a_scan_of_no_epochs_is_tested_as_it_stands(tmp_path: Path) -> None:
    text = NETWORK.replace("epochs = 2", "epochs = 0").replace("width = 8", "")
    scan = read(f'{text}[[grid]]\nfamily = "Untrained"\nmodel.width = [4, 8]\n')
    outcome = run(scan, tmp_path)
    rows = store.read_epochs(outcome.folder, columns=["epoch", "val_accuracy"])
    assert rows["epoch"].to_pylist() == [0] * 4
    (choice,) = (ended := retrain(outcome.folder)).choices
    assert (choice.epochs, ended.exit_code) == (0, 0)
    (retrained,) = ended.retrained
    assert retrained.test_accuracy == card(outcome.folder, "Untrained")["results"]["test_accuracy"]
    (asked,) = retrain(outcome.folder, epochs=1).choices
    assert asked.epochs == 1
