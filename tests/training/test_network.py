from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from trials import AUGMENTATION, CNN, NO_AUGMENTATION, ONE_CYCLE, SGD, untimed
from trials import trial as made

from nnscan.allocation import Allocation, AllocationEndedError, Reason
from nnscan.data.dataset import load
from nnscan.errors import StoreError
from nnscan.launch_folder import Launch
from nnscan.models.build import build
from nnscan.models.folder import load_model
from nnscan.results.calibration import expected_calibration_error
from nnscan.results.folder import ScanFolder
from nnscan.training import checkpoint, loop, network
from nnscan.training.network import NetworkTraining, Timer
from nnscan.training.place import Place, TakenOverError
from nnscan.training.state import begin
from nnscan.training.trial_data import TrialData
from nnscan.trial import Kind, Trial

torch.set_num_threads(1)

DIGITS = {"name": "digits", "normalization": "standard", "test": 0.2, "augmentation": NO_AUGMENTATION}
HARD = {
    "model": {**CNN, "dropout": 0.2},
    "optimizer": {**SGD, "schedule": ONE_CYCLE},
    "data": {**DIGITS, "augmentation": AUGMENTATION},
}


def trial(**changes: Any) -> Trial:
    """A tiny network on the digits: two folds, batches of 128, two epochs."""
    training = {"epochs": 2, "batch_size": 128, **changes.pop("training", {})}
    return made(**{"data": DIGITS, "training": training, "fold": 1, **changes})


@dataclass
class Home:
    """A scan folder, and places in it to train."""

    folder: ScanFolder
    launch: Launch = field(
        default_factory=lambda: Launch(
            name="l", scan="s", metric="val_accuracy", code=".", data_root=".", checkpoint_minutes=0.0
        )
    )

    def open(self, one: Trial, *, writer: str = "w", closed: Callable[[], bool] = lambda: False, **changes: Any) -> Any:
        place = Place(self.folder, replace(self.launch, **changes), "cpu", writer, closed)
        return NetworkTraining.open(one, place)

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in self.folder.checkpoints.glob("*"))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(ScanFolder(tmp_path / "scan"))


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the checkpoint timer due after every so many steps."""

    def every(steps: int) -> None:
        asked = iter(range(1, 10_000))
        monkeypatch.setattr(Timer, "is_due", lambda timer: next(asked) % steps == 0)

    return every


def trained(training: NetworkTraining) -> list[dict[str, Any]]:
    """Train to the end, over every interruption, and return the rows."""
    return [row for row in training.epochs() if row is not None]


def by_hand(one: Trial, tmp_path: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """Train `one` in the plainest way."""
    dataset = load(one.settings["data"], root=None, cache=tmp_path / "own", seed=one.settings["training"]["seed"])
    data = TrialData.of(dataset, one, "cpu")
    state = begin(one, data)
    rows = [loop.first_row(state, data)] if one.kind is Kind.TRIAL else []
    while state.epoch < one.epochs:
        rows.append(loop.train_epoch(state, data, lambda: False) or {})
    return untimed(rows), state.model.state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("changes", [{}, HARD], ids=["mlp", "cnn, augmentation, dropout, one cycle"])
def test_a_trial_is_its_epochs_one_after_another(home: Home, tmp_path: Path, changes: dict[str, Any]) -> None:
    training = home.open(trial(**changes))
    rows = trained(training)
    expected, weights = by_hand(trial(**changes), tmp_path)
    assert training.first_epoch == 0
    assert untimed(rows) == expected
    assert equal(training.state.model.state_dict(), weights)
    columns = training.columns()
    assert columns["parameters"] == sum(value.numel() for value in training.state.model.parameters())
    assert (len(columns["data_fingerprint"]), columns["code_fingerprint"]) == (32, "")
    assert training.finish() == {}
    assert home.checkpoints() == []
    assert not home.folder.kept.exists()


@pytest.mark.parametrize("deterministic", [True, False])
def test_operations_are_deterministic_where_that_was_asked(home: Home, deterministic: bool) -> None:
    torch.use_deterministic_algorithms(not deterministic)
    try:
        home.open(trial(), deterministic=deterministic)
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert torch.backends.cudnn.deterministic is deterministic
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False


class Killed(BaseException):
    """As if the process died here."""


def killed_after(training: NetworkTraining, rows: int) -> None:
    epochs = training.epochs()
    for _ in range(rows):
        next(epochs)
    epochs.close()


@pytest.mark.parametrize("changes", [{}, HARD], ids=["mlp", "cnn, augmentation, dropout, one cycle"])
def test_a_killed_attempt_goes_on_from_a_checkpoint_between_epochs(
    home: Home, tmp_path: Path, changes: dict[str, Any]
) -> None:
    one = trial(**changes)
    killed_after(home.open(one, writer="first", checkpoint_epochs=1), 3)
    (name,) = home.checkpoints()
    assert name.startswith(f"{one.key}.first.")
    second = home.open(one, writer="second", checkpoint_epochs=1)
    assert second.state.epoch == 1
    expected, weights = by_hand(one, tmp_path)
    assert untimed(trained(second)) == expected
    assert equal(second.state.model.state_dict(), weights)


@pytest.mark.parametrize("steps", [1, 3, 6, 8])
def test_a_killed_attempt_goes_on_from_a_checkpoint_within_an_epoch(
    home: Home, tmp_path: Path, due: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    one = trial(**HARD)
    due(steps)
    save = NetworkTraining._save

    def save_and_die(training: NetworkTraining) -> None:
        save(training)
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(NetworkTraining, "_save", save_and_die)
        with pytest.raises(Killed):
            trained(home.open(one, writer="first"))
    (name,) = home.checkpoints()
    assert name == f"{one.key}.first.{steps}.pt"
    second = home.open(one, writer="second")
    assert second.state.steps == steps
    expected, weights = by_hand(one, tmp_path)
    assert untimed(trained(second)) == expected
    assert equal(second.state.model.state_dict(), weights)


@pytest.mark.parametrize("reason", Reason)
def test_an_allocation_that_ends_ends_the_training_after_a_step_and_another_goes_on(
    home: Home, tmp_path: Path, reason: Reason
) -> None:
    one = trial(**HARD)
    first = home.open(one, writer="first")
    allocation = Allocation()
    first = replace(first, place=replace(first.place, allocation=allocation))
    rows = []
    with pytest.raises(AllocationEndedError, match=reason.value):
        for row in first.epochs():
            rows.append(row)
            if len(rows) == 2:
                allocation.end(reason)
    assert home.checkpoints() == [f"{one.key}.first.{first.state.steps}.pt"]
    assert (first.state.epoch, first.state.step) == (1, 1)
    second = home.open(one, writer="second")
    expected, weights = by_hand(one, tmp_path)
    assert untimed(trained(second)) == expected
    assert equal(second.state.model.state_dict(), weights)


def test_a_killed_warm_start_goes_on_from_its_checkpoint(home: Home) -> None:
    content = safetensors.torch.save(build(HARD["model"], (1, 8, 8), 10, seed=77).state_dict())
    digest = hashlib.sha256(content).hexdigest()
    home.folder.weights.mkdir(parents=True)
    (home.folder.weights / digest).write_bytes(content)
    one = trial(**HARD, training={"warm_start": f"sha256:{digest}"})
    whole, cold = home.open(one), home.open(trial(**HARD))
    rows = untimed(trained(whole))
    assert rows[0] != untimed([next(cold.epochs())])[0]
    killed_after(home.open(one, writer="first", checkpoint_epochs=1), 3)
    resumed = home.open(one, writer="second")
    assert resumed.state.epoch == 1
    assert untimed(trained(resumed)) == rows
    assert equal(resumed.state.model.state_dict(), whole.state.model.state_dict())


def test_checkpoints_in_passing_change_nothing(home: Home, tmp_path: Path, due: Callable[[int], None]) -> None:
    due(2)
    training = home.open(trial(**HARD), checkpoint_epochs=1)
    expected, weights = by_hand(trial(**HARD), tmp_path)
    assert untimed(trained(training)) == expected
    assert equal(training.state.model.state_dict(), weights)
    assert len(home.checkpoints()) == 1  # a writer keeps its newest
    training.remove_checkpoints()
    assert home.checkpoints() == []


def test_no_checkpoint_is_made_where_none_was_asked_for(home: Home) -> None:
    trained(home.open(trial()))
    assert not home.folder.checkpoints.exists()


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3]), (2, [2]), (3, [3]), (4, [])])
def test_checkpoints_come_every_so_many_epochs_and_not_after_the_last(
    home: Home, monkeypatch: pytest.MonkeyPatch, every: int, expected: list[int]
) -> None:
    saved = []
    monkeypatch.setattr(
        checkpoint, "save", lambda folder, writer, state, rows, *, fingerprint: saved.append(state.epoch)
    )
    trained(home.open(trial(training={"epochs": 4}), checkpoint_epochs=every))
    assert saved == expected


def test_a_timer_is_due_after_its_seconds_and_never_without(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(network.time, "monotonic", lambda: now)
    timer, never = Timer(60.0, now), Timer(0.0, now)
    now = 159.0
    assert not timer.is_due()
    now = 160.0
    assert timer.is_due()
    assert not never.is_due()
    timer.restart()
    assert not timer.is_due()


def test_whose_bundle_was_taken_over_saves_nothing_and_ends(home: Home, due: Callable[[int], None]) -> None:
    due(1)
    with pytest.raises(TakenOverError):
        trained(home.open(trial(), closed=lambda: True))
    assert home.checkpoints() == []


def test_a_checkpoint_of_other_data_or_code_is_passed_over(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    one = trial()
    killed_after(home.open(one, checkpoint_epochs=1), 3)
    (path,) = home.folder.checkpoints.glob("*")
    content = torch.load(path, weights_only=True)
    torch.save({**content, "fingerprint": "other"}, path)
    assert home.open(one).state.epoch == 0
    assert "passed over a checkpoint" in capsys.readouterr().out


def test_the_best_weights_are_kept_where_asked(home: Home) -> None:
    one = trial(training={"epochs": 4, "keep": "best"}, optimizer={**SGD, "learning_rate": 0.3})
    training = home.open(one)
    rows = trained(training)
    training.finish()
    model = load_model(home.folder.kept / one.key)
    best = max(row["val_accuracy"] for row in rows)
    data = training.data
    images = data.images[data.validation].float() * data.normalization.scale[0] + data.normalization.shift[0]
    with torch.inference_mode():
        found = model.network(images).argmax(1)
    assert (found == data.labels[data.validation]).double().mean().item() == pytest.approx(best)


def test_a_resumed_attempt_keeps_the_best_of_both(home: Home) -> None:
    one = trial(training={"epochs": 4, "keep": "best"}, optimizer={**SGD, "learning_rate": 0.3})
    whole = home.open(one)
    trained(whole)
    killed_after(home.open(one, writer="first", checkpoint_epochs=1), 4)
    resumed = home.open(one, writer="second")
    trained(resumed)
    assert resumed.state.best is not None
    assert equal(resumed.state.best, whole.state.best)


def test_early_stopping_ends_the_training(home: Home) -> None:
    patience = {"early_stopping": {"patience": 1, "monitor": "val_loss"}}
    one = trial(training={"epochs": 50, **patience}, optimizer={**SGD, "learning_rate": 0.5})
    rows = trained(home.open(one))
    losses = [row["val_loss"] for row in rows]
    assert len(rows) < 51
    assert losses[-1] >= min(losses[:-1])
    assert all(after < before for before, after in pairwise(losses[:-1]))


def test_a_retraining_takes_everything_is_tested_and_leaves_a_model_a_family(home: Home, tmp_path: Path) -> None:
    one = replace(trial(), kind=Kind.RETRAINING, families=("A", "B"), fold=0)
    training = home.open(one)
    assert training.first_epoch == 1
    rows = trained(training)
    expected, weights = by_hand(one, tmp_path)
    assert untimed(rows) == expected
    assert all("val_loss" not in row for row in rows)
    more = training.finish()
    assert more["metrics"] == rows[-1]
    dataset = training.data.dataset
    images = dataset.test_images.float() * training.data.normalization.scale[0] + training.data.normalization.shift[0]
    for family in one.families:
        model = load_model(home.folder.models / family)
        assert equal(model.network.state_dict(), weights)
        with torch.inference_mode():
            hits = model.network(images).argmax(1) == dataset.test_labels
        assert more["test_accuracy"] == pytest.approx(hits.double().mean().item())


@pytest.mark.parametrize("patience", [0, 2])
def test_no_epochs_are_an_evaluation_of_the_network_as_it_stands(home: Home, patience: int) -> None:
    stopping = {"early_stopping": {"patience": patience, "monitor": "val_loss"}}
    training = home.open(trial(training={"epochs": 0, "keep": "best", **stopping}))
    before = {name: value.clone() for name, value in training.state.model.state_dict().items()}
    (row,) = training.epochs()
    assert training.finish() == {}
    one = home.open(trial(training={"epochs": 2}))
    assert untimed([row]) == untimed([next(one.epochs())])
    assert equal(load_model(home.folder.kept / training.trial.key).network.state_dict(), before)


def test_a_retraining_of_no_epochs_tests_the_network_and_leaves_its_model(home: Home, tmp_path: Path) -> None:
    one = replace(trial(training={"epochs": 0}), kind=Kind.RETRAINING, fold=0)
    training = home.open(one)
    assert trained(training) == []
    more = training.finish()
    assert more["metrics"] == {}
    _, weights = by_hand(one, tmp_path)
    model = load_model(home.folder.models / "T")
    assert equal(model.network.state_dict(), weights)
    assert model.card.results["test_accuracy"] == more["test_accuracy"]


def test_a_killed_retraining_goes_on_from_its_checkpoint(home: Home, tmp_path: Path) -> None:
    one = replace(trial(), kind=Kind.RETRAINING, fold=0)
    killed_after(home.open(one, writer="first", checkpoint_epochs=1), 2)
    second = home.open(one, writer="second")
    assert second.state.epoch == 1
    expected, weights = by_hand(one, tmp_path)
    assert untimed(trained(second)) == expected
    assert equal(second.state.model.state_dict(), weights)


def test_data_are_loaded_once_for_the_trials_of_a_launch_and_anew_for_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def counting(*arguments: Any, **keywords: Any) -> Any:
        loaded.append(keywords["seed"])
        return load(*arguments, **keywords)

    monkeypatch.setattr(network, "load", counting)
    network._dataset.cache_clear()
    network._kept.clear()
    first, second = home.open(trial(fold=0)), home.open(trial(fold=1))
    assert first.data.images.data_ptr() == second.data.images.data_ptr()
    assert len(loaded) == 1
    home.open(trial(fold=0), name="another launch")
    assert len(loaded) == 2
    assert home.open(trial(fold=0), name="another launch").data is first.data


def kept(home: Home) -> list[str]:
    return sorted(path.name.partition(".")[2] for path in home.folder.kept.iterdir())


@pytest.mark.parametrize("kind", list(Kind))
def test_the_weights_of_every_so_many_epochs_are_kept_where_asked(home: Home, tmp_path: Path, kind: Kind) -> None:
    one = replace(trial(training={"epochs": 5, "keep_every": 2}), kind=kind, fold=0)
    training = home.open(one)
    rows = trained(training)
    training.finish()
    assert kept(home) == ["epoch-0002", "epoch-0004"]
    model = load_model(home.folder.kept / f"{one.key}.epoch-0002")
    assert model.card.results["epochs"] == 2
    assert model.card.results["last_epoch"] == rows[2 - training.first_epoch]
    _, weights = by_hand(replace(one, epochs=2), tmp_path)
    assert equal(model.network.state_dict(), weights)


def test_what_is_kept_of_the_best_epoch_says_which_that_is(home: Home) -> None:
    one = trial(training={"epochs": 4, "keep": "best"}, optimizer={**SGD, "learning_rate": 0.3})
    training = home.open(one, metric="val_loss")
    losses = [row["val_loss"] for row in training.epochs()]
    training.finish()
    results = load_model(home.folder.kept / one.key).card.results
    assert results["epochs"] == losses.index(min(losses))
    assert results["last_epoch"]["val_loss"] == min(losses)


def test_an_attempt_removes_what_an_earlier_one_kept_of_epochs_to_come(home: Home) -> None:
    one = trial(training={"epochs": 4, "keep_every": 1})
    other = replace(one, key="0" * 31 + "b")
    for each in (one, other):
        trained(home.open(each))
    assert kept(home) == [f"epoch-000{epoch}" for epoch in (1, 1, 2, 2, 3, 3, 4, 4)]
    home.open(one)  # begins anew
    assert kept(home) == [f"epoch-000{epoch}" for epoch in (1, 2, 3, 4)]


def test_a_resumed_attempt_leaves_what_was_kept_before_it(home: Home) -> None:
    one = trial(training={"epochs": 4, "keep_every": 1})
    killed_after(home.open(one, checkpoint_epochs=2), 5)
    assert kept(home) == ["epoch-0001", "epoch-0002", "epoch-0003", "epoch-0004"]
    training = home.open(one)
    assert training.state.epoch == 2
    assert kept(home) == ["epoch-0001", "epoch-0002"]
    trained(training)
    assert kept(home) == ["epoch-0001", "epoch-0002", "epoch-0003", "epoch-0004"]


def test_weights_that_cannot_be_kept_are_told_as_a_fault_of_the_place(home: Home) -> None:
    home.folder.path.mkdir(parents=True)
    home.folder.kept.write_text("a file in the way")
    with pytest.raises(StoreError, match="cannot write"):
        trained(home.open(trial(training={"keep_every": 1})))


@pytest.mark.parametrize("steps", [3, 15, 22])
def test_a_resumed_attempt_tells_the_steps_of_all_its_epochs(
    home: Home, due: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    one = trial(**HARD, training={"epochs": 4, "steps": ["accuracy", "gradient_norms", "loss"]})
    whole = told(home.open(one))
    due(steps)
    save = NetworkTraining._save

    def save_and_die(training: NetworkTraining) -> None:
        save(training)
        raise Killed

    with monkeypatch.context() as dying:
        dying.setattr(NetworkTraining, "_save", save_and_die)
        with pytest.raises(Killed):
            trained(home.open(one, writer="first"))
    assert told(home.open(one, writer="second")) == whole
    assert [len(epoch.get("loss", [])) for epoch in whole] == [0, 9, 9, 9, 9]


def told(training: NetworkTraining) -> list[dict[str, list[float]]]:
    """Train to the end and return the steps of each epoch, as an attempt asks for them."""
    rows = (row for row in training.epochs() if row is not None)
    return [training.steps(training.first_epoch + index) for index, _ in enumerate(rows)]


def test_a_retraining_leaves_examples_of_its_test_and_how_well_it_is_calibrated(home: Home) -> None:
    one = replace(trial(), kind=Kind.RETRAINING, fold=0)
    training = home.open(one)
    trained(training)
    training.finish()
    folder = home.folder.models / "T"
    predictions = pq.read_table(folder / "predictions.parquet").to_pylist()
    rows = pq.read_table(folder / "examples.parquet").to_pylist()
    assert {role for row in rows for role in row["roles"]} == {"worst", "gallery", "class"}
    for row in rows:
        other = predictions[row["index"]]
        assert (row["label"], row["prediction"]) == (other["label"], other["prediction"])
        assert row["probability"] == pytest.approx(max(other["probabilities"]))
    right = np.array([row["label"] == row["prediction"] for row in predictions])
    confidences = np.array([max(row["probabilities"]) for row in predictions])
    results = load_model(folder).card.results
    assert results["test_calibration_error"] == pytest.approx(expected_calibration_error(confidences, right))
    assert results["test_accuracy"] == pytest.approx(right.mean())
