from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comparing import near
from torch import nn
from trials import (
    ADAM,
    ADAMW,
    AUGMENTATION,
    CNN,
    MLP,
    NO_AUGMENTATION,
    ONE_CYCLE,
    SGD,
    data_of,
    dataset,
    train,
    trial,
    untimed,
    weights,
)

from nnscan.attempt import NotTogetherError
from nnscan.data.dataset import Dataset
from nnscan.training import checkpoint, early_stopping
from nnscan.training.fusion.core import NetworkOf
from nnscan.training.fusion.group import FusedGroup, Joined
from nnscan.training.fusion.perceptrons import Perceptrons
from nnscan.training.fusion.vmapped import Vmapped
from nnscan.training.state import TrainingState, begin
from nnscan.training.trial_data import TrialData
from nnscan.trial import Trial

torch.set_num_threads(1)

Rows = list[dict[str, Any]]

STEP = {"name": "step", "every": 1, "factor": 0.5}
PLAIN = {**SGD, "momentum": 0.0, "nesterov": False}
DROPPING = {**MLP, "dropout": 0.3}

DIFFERENT: dict[str, list[dict[str, Any]]] = {
    "rates and decays": [
        {"optimizer": {**ADAM, "learning_rate": 0.001 * k, "weight_decay": 0.1 * k}} for k in (1, 2, 3)
    ],
    "momentum": [{"optimizer": {**SGD, "momentum": value}} for value in (0.5, 0.9, 0.9)],
    "no momentum": [{"optimizer": {**SGD, "momentum": 0.0, "nesterov": False, "learning_rate": k}} for k in (0.1, 0.2)],
    "schedules": [{"optimizer": {**ADAMW, "schedule": one}} for one in ({"name": "constant"}, ONE_CYCLE, STEP)],
    "betas": [{"optimizer": {**ADAM, "betas": [0.8, value], "epsilon": 1e-3 * value}} for value in (0.9, 0.99)],
    "large layers": [{"model": {**MLP, "width": 700, "depth": 2}, "fold": fold} for fold in (0, 1)],
    "folds": [{"fold": fold} for fold in (0, 1, 3)],
    "seeds": [{"training": {"seed": seed}} for seed in (0, 1, 2)],
    "replicates": [{"replicate": number} for number in (0, 1)],
    "epochs": [{"training": {"epochs": epochs}} for epochs in (4, 1, 0, 2)],
    "smoothing": [{"task": {"label_smoothing": value}} for value in (0.0, 0.1)],
    "mean square": [{"task": {"loss": "mse"}, "fold": fold} for fold in (0, 1)],
    "clipping": [{"training": {"gradient_clip": value}} for value in (0.0, 0.1, 1.0)],
    "dropout": [{"model": {**MLP, "dropout": value}, "fold": fold} for value in (0.2, 0.6) for fold in (0, 1)],
    "augmentation": [{"data": {"augmentation": {**AUGMENTATION, "crop_padding": k}}} for k in (1, 2)],
    "augmentation or none": [{"data": {"augmentation": one}} for one in (NO_AUGMENTATION, AUGMENTATION)],
    "early stopping": [
        {"training": {"epochs": 30, "early_stopping": {"patience": k, "monitor": "val_loss"}}, "optimizer": SGD}
        for k in (1, 2, 3)
    ],
}
"""What trials of one group may differ in."""


@dataclass
class Company:
    """Trials of a group, each with its rows."""

    group: FusedGroup
    of: Dataset = field(default_factory=lambda: dataset(examples=122))
    joined: list[tuple[Joined, TrainingState, TrialData, Rows]] = field(default_factory=list)

    def add(self, one: Trial, state: TrainingState | None = None, rows: Rows | None = None) -> Rows:
        data = data_of(one, self.of)
        state, rows = state or begin(one, data), [] if rows is None else rows

        def goes_on() -> bool:
            return len(rows) <= one.epochs and not early_stopping.stop(rows, one)

        self.joined.append((self.group.join(state, data, goes_on), state, data, rows))
        return rows

    def train(self, interrupted: Callable[[], bool] = lambda: False, *, leave: bool = True) -> bool:
        """Go on with all in turn, to the end of each; return False where they were interrupted."""
        while self.joined:
            for entry in list(self.joined):
                joined, state, data, rows = entry
                if rows and not joined.member.goes_on():
                    self.joined.remove(entry)
                    if leave:
                        joined.leave()
                    continue
                row = joined.train_epoch(state, data, interrupted) if rows else joined.first_row(state, data)
                if row is None:
                    return False
                rows.append(row)
        return True


def together(trials: list[Trial], network_of: NetworkOf = Perceptrons.of) -> list[Rows]:  # type: ignore[assignment]
    company = Company(FusedGroup(len(trials), network_of))
    rows = [company.add(one) for one in trials]
    assert company.train()
    return rows


def alone(one: Trial) -> Rows:
    data, rows = data_of(one, dataset(examples=122)), []
    assert train(begin(one, data), data, rows)
    return rows


def exactly(found: Rows, expected: Rows) -> None:
    """Assert equal bits, but for the training loss, whose sum is taken in another order."""
    near(untimed(found), untimed(expected), 1e-6)
    for one, other in zip(untimed(found), untimed(expected), strict=True):
        near({**one, "train_loss": 0}, {**other, "train_loss": 0}, 0)


@pytest.mark.parametrize("name", DIFFERENT)
def test_each_trial_gets_the_rows_that_it_has_alone(name: str) -> None:
    trials = [trial(**{"model": MLP, **changes}) for changes in DIFFERENT[name]]
    for found, one in zip(together(trials), trials, strict=True):
        if name in ("smoothing", "mean square"):  # of their losses the gradients differ in the last bit
            near(untimed(found), untimed(alone(one)), 1e-4)
        else:
            exactly(found, alone(one))


def test_a_group_of_one_gets_the_bits_that_a_large_one_gets() -> None:
    trials = [trial(**changes) for changes in DIFFERENT["dropout"]]
    apart = [together([one])[0] for one in trials]
    assert [untimed(rows) for rows in together(trials)] == [untimed(rows) for rows in apart]


def test_networks_of_any_kind_get_the_rows_that_they_have_alone_but_for_rounding() -> None:
    trials = [trial(model=CNN, fold=fold, optimizer={**SGD, "learning_rate": 0.01}) for fold in range(3)]
    for found, one in zip(together(trials, Vmapped.of), trials, strict=True):
        near(untimed(found), untimed(alone(one)), 1e-3)


def test_a_trial_that_diverges_or_ends_early_changes_nothing_for_the_others() -> None:
    rates = (0.01, 1e30, 0.02)
    trials = [trial(optimizer={**SGD, "learning_rate": rate}, training={"epochs": 4}) for rate in rates]
    first, diverged, last = together(trials)
    exactly(first, alone(trials[0]))
    exactly(last, alone(trials[2]))
    assert not math.isfinite(diverged[-1]["val_loss"])


def test_one_that_leaves_makes_room_for_the_next() -> None:
    short, long, late = (trial(fold=fold, training={"epochs": epochs}) for fold, epochs in ((0, 1), (1, 5), (2, 2)))
    company = Company(FusedGroup(2, Perceptrons.of))  # type: ignore[arg-type]
    rows = {one.fold: company.add(one) for one in (short, long)}
    while len(company.joined) == 2:
        for entry in list(company.joined):
            joined, state, data, own = entry
            if own and not joined.member.goes_on():
                company.joined.remove(entry)
                joined.leave()
            else:
                row = joined.train_epoch(state, data, lambda: False) if own else joined.first_row(state, data)
                assert row is not None
                own.append(row)
    rows[late.fold] = company.add(late)
    assert company.train()
    for one in (short, long, late):
        exactly(rows[one.fold], alone(one))


@pytest.mark.parametrize(
    "optimizer", [SGD, ADAM, {**SGD, "momentum": 0.0, "nesterov": False}], ids=["sgd", "adam", "plain"]
)
@pytest.mark.parametrize("steps", [3, 6, 10])
def test_a_group_that_is_saved_anywhere_goes_on_bit_for_bit(
    tmp_path: Path, optimizer: dict[str, Any], steps: int
) -> None:
    trials = [trial(model=DROPPING, optimizer={**optimizer, "schedule": ONE_CYCLE}, fold=fold) for fold in range(3)]
    expected = together(trials)
    company = Company(FusedGroup(3, Perceptrons.of))  # type: ignore[arg-type]
    for one in trials:
        company.add(one)
    asked = count(1)
    assert not company.train(lambda: next(asked) % steps == 0)
    saved = []
    for number, (_, state, _, rows) in enumerate(company.joined):
        path = checkpoint.save(tmp_path / str(number), "w", state, rows, fingerprint="f")
        assert path.stat().st_size < 60_000  # its own row, not the stack
        saved.append(checkpoint.load_newest(tmp_path / str(number), trials[number].key, fingerprint="f").checkpoint)
    again = Company(FusedGroup(3, Perceptrons.of))  # type: ignore[arg-type]
    found = []
    for one, at in zip(trials, saved, strict=True):
        assert at is not None
        found.append(again.add(one, checkpoint.restore(at, one, data_of(one, again.of)), at.rows))
    assert again.train()
    assert [untimed(rows) for rows in found] == [untimed(rows) for rows in expected]


def test_what_was_saved_in_a_group_goes_on_alone_and_the_other_way_round(tmp_path: Path) -> None:
    one = trial(model=DROPPING)
    company = Company(FusedGroup(2, Perceptrons.of))  # type: ignore[arg-type]
    company.add(one)
    asked = count(1)
    assert not company.train(lambda: next(asked) == 8)
    _, state, data, rows = company.joined[0]
    checkpoint.save(tmp_path, "w", state, rows, fingerprint="f")
    found = checkpoint.load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    assert train(checkpoint.restore(found, one, data), data, found.rows)
    exactly(found.rows, alone(one))

    own, begun = [], begin(one, data)
    asked = count(1)
    assert not train(begun, data, own, lambda: next(asked) == 8)
    resumed = Company(FusedGroup(2, Perceptrons.of))  # type: ignore[arg-type]
    resumed.add(one, begun, own)
    assert resumed.train()
    exactly(own, alone(one))


def test_weights_are_those_of_the_trial_alone_after_it_has_left() -> None:
    trials = [trial(fold=fold) for fold in range(3)]
    company = Company(FusedGroup(3, Perceptrons.of))  # type: ignore[arg-type]
    for one in trials:
        company.add(one)
    states = [state for _, state, _, _ in company.joined]
    assert company.train(leave=False)
    for state, one in zip(states, trials, strict=True):
        data, rows = data_of(one, company.of), []
        expected = begin(one, data)
        train(expected, data, rows)
        assert all(
            torch.equal(*pair)
            for pair in zip(weights(state.model).values(), weights(expected.model).values(), strict=True)
        )


class Drawing(nn.Module):
    """Draws from numpy's generator, as a user's network may."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.linear(inputs.flatten(1))
        return outputs * float(np.random.rand()) if self.training else outputs


def test_what_a_network_draws_from_is_seeded_for_the_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnscan.training.state.build", lambda *_, **__: Drawing())
    torch.manual_seed(0)
    [expected] = together([trial()], Vmapped.of)
    torch.manual_seed(0)
    np.random.seed(99)  # as it happened to stand
    assert [untimed(rows) for rows in together([trial()], Vmapped.of)] == [untimed(expected)]


class Broken(Perceptrons):
    """Fails in its first step."""

    def forward(self, rows: slice, inputs: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken")


def test_what_the_group_throws_is_no_fault_of_the_trial_that_asked() -> None:
    with pytest.raises(NotTogetherError) as caught:
        together([trial(), trial(fold=2)], Broken.of)  # type: ignore[arg-type]
    assert str(caught.value.__cause__) == "broken"
