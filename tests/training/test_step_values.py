"""What is recorded of every step, against a plain loop with autograd alone."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import on_ranks
import pytest
import torch
from ranks import Ranks
from torch import nn
from torch.nn import functional
from trials import AUGMENTATION, CNN, MLP, ONE_CYCLE, SGD, data_of, never, train, trial

from nnscan.data.batches import epoch_order
from nnscan.identity import Purpose, seed32
from nnscan.models.build import build
from nnscan.training.checkpoint import load_newest, restore, save
from nnscan.training.group import ALONE
from nnscan.training.loop import train_epoch
from nnscan.training.state import TrainingState, begin

torch.set_num_threads(1)

ALL = ["accuracy", "gradient_norms", "loss"]
PLAIN_SGD = {**SGD, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}


def recorded(state: TrainingState) -> list[dict[str, list[float]]]:
    """Return the values of all epochs that are over."""
    assert state.step_values is not None
    return [state.step_values.of_epoch(epoch + 1) for epoch in range(state.epoch)]


def by_hand(one: Any, epochs: int) -> list[dict[str, list[float]]]:
    """Train a network by plain gradient descent, without nnscan's loop, and note each step."""
    data = data_of(one)
    training = one.settings["training"]

    def seed(purpose: Purpose, epoch: int = 0) -> int:
        return seed32(training["seed"], purpose, fold=one.fold, epoch=epoch)

    model = build(one.settings["model"], data.input_shape, data.classes, seed=seed(Purpose.INITIALISATION)).train()
    named = dict(model.named_parameters())
    scale, shift = data.normalization.tensors(4)
    found = []
    for epoch in range(1, epochs + 1):
        order = data.training[epoch_order(len(data.training), seed(Purpose.ORDER, epoch))]
        steps = []
        for indices in torch.split(order, training["batch_size"]):
            outputs = model(data.images[indices].float() * scale + shift)
            loss = functional.cross_entropy(outputs, data.labels[indices])
            gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
            norms = {name: value.square().sum().sqrt() for name, value in gradients.items()}
            whole = torch.stack(list(norms.values())).norm().item()
            factor = min(1.0, (training["gradient_clip"] or whole) / whole)
            with torch.no_grad():
                for name, value in named.items():
                    value -= one.settings["optimizer"]["learning_rate"] * factor * gradients[name]
            accuracy = (outputs.argmax(1) == data.labels[indices]).float().mean().item()
            told = {"loss": loss.item(), "accuracy": accuracy}
            steps.append(told | {f"gradient_norm/{name}": norm.item() for name, norm in norms.items()})
        found.append({name: [step[name] for step in steps] for name in steps[0]})
    return found


@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
@pytest.mark.parametrize("more", [{}, {"gradient_clip": 0.5}], ids=["", "clipped"])
def test_values_are_those_of_a_plain_loop(model: dict[str, Any], more: dict[str, Any]) -> None:
    one = trial(model=model, optimizer=PLAIN_SGD, training={"steps": ALL, **more})
    data = data_of(one)
    state = begin(one, data)
    train_epoch(state, data, never)
    train_epoch(state, data, never)
    expected = by_hand(one, 2)
    found = recorded(state)
    assert [list(epoch) for epoch in found] == [list(epoch) for epoch in expected]
    for ours, theirs in zip(found, expected, strict=True):
        for name, values in theirs.items():
            assert ours[name] == pytest.approx(values, rel=1e-3, abs=1e-5), name


def test_the_batches_of_an_epoch_average_to_its_row() -> None:
    one = trial(training={"steps": ["loss", "accuracy"], "batch_size": 28})  # 90 = 28 + 28 + 28 + 6
    data = data_of(one)
    state = begin(one, data)
    row = train_epoch(state, data, never) or {}
    (epoch,) = recorded(state)
    sizes = [28, 28, 28, 6]
    for name in ("loss", "accuracy"):
        mean = sum(value * size for value, size in zip(epoch[name], sizes, strict=True)) / 90
        assert mean == pytest.approx(row[f"train_{name}"], rel=1e-12)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (["loss"], ["loss"]),
        (["accuracy"], ["accuracy"]),
        (["gradient_norms"], ["gradient_norm/1.weight", "gradient_norm/1.bias"]),
        (["gradient_norms", "loss"], ["loss", "gradient_norm/1.weight", "gradient_norm/1.bias"]),
    ],
    ids=str,
)
def test_only_what_was_asked_is_recorded(asked: list[str], names: list[str]) -> None:
    one = trial(model={"name": f"{__name__}:half_frozen", "arguments": {}}, training={"steps": asked})
    state, data = begin(one, data_of(one)), data_of(one)
    train_epoch(state, data, never)
    assert list(recorded(state)[0]) == names


def half_frozen(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    frozen = nn.Linear(classes, classes).requires_grad_(False)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes), frozen)


def test_recording_changes_no_bit() -> None:
    plain, noted = trial(model=CNN), trial(model=CNN, training={"steps": ALL})
    states = [begin(one, data_of(one)) for one in (plain, noted)]
    for state in states:
        train_epoch(state, data_of(plain), never)
    assert states[0].step_values is None
    first, second = (state.model.state_dict() for state in states)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


# ---------------------------------------------------------------------------------------------- resuming

HARD = {
    "model": {**CNN, "dropout": 0.2},
    "optimizer": {**SGD, "schedule": ONE_CYCLE},
    "data": {"augmentation": AUGMENTATION},
    "training": {"steps": ALL},
}


@pytest.mark.parametrize("steps", [1, 5, 6, 9, 14], ids=str)
def test_a_resumed_trial_has_the_values_of_an_uninterrupted_one_to_the_bit(steps: int, tmp_path: Path) -> None:
    one = trial(**HARD)
    whole = begin(one, data_of(one))
    train(whole, data_of(one), [])
    rows: list[dict[str, Any]] = []
    state = begin(one, data_of(one))
    assert not train(state, data_of(one), rows, on_ranks.After(steps))
    save(tmp_path, "w", state, rows, fingerprint="f")
    found = load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    resumed = restore(found, one, data_of(one))
    train(resumed, data_of(one), list(found.rows))
    assert recorded(resumed) == recorded(whole)
    assert recorded(whole)[0]["loss"] != recorded(whole)[1]["loss"]


def test_a_training_that_goes_on_leaves_its_checkpoint_as_it_was(tmp_path: Path) -> None:
    one = trial(training={"steps": ["loss"]})
    state = begin(one, data_of(one))
    train_epoch(state, data_of(one), never)
    save(tmp_path, "w", state, [{"val_loss": 1.0}], fingerprint="f")
    found = load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    train_epoch(restore(found, one, data_of(one)), data_of(one), never)
    assert len(recorded(restore(found, one, data_of(one)))) == 1


# ---------------------------------------------------------------------------------------------- several ranks


CHANGES = {
    "model": on_ranks.named(on_ranks.cnn64),
    "optimizer": SGD,
    "training": {"steps": ALL, "batch_size": 20},
}


def near(one: list[dict[str, list[float]]], other: list[dict[str, list[float]]]) -> None:
    assert [list(epoch) for epoch in one] == [list(epoch) for epoch in other]
    for ours, theirs in zip(one, other, strict=True):
        for name, values in theirs.items():
            assert ours[name] == pytest.approx(values, rel=1e-9, abs=1e-11), name


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("more", [{}, {"accumulation": 2}], ids=["", "accumulation"])
def test_several_ranks_record_what_one_process_does(ranks: Ranks, size: int, more: dict[str, Any]) -> None:
    changes = {**CHANGES, "training": {**CHANGES["training"], **more}}
    first, *_ = ranks.run(size, "step_values", changes=changes)
    alone = on_ranks.step_values(ALONE, changes)
    near(first, alone)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (2, 1), (1, 2), (2, 3)])
def test_recording_goes_on_with_as_many_ranks_or_others(ranks: Ranks, before: int, after: int, tmp_path: Path) -> None:
    ranks.run(before, "save_after", changes=CHANGES, steps=8, folder=str(tmp_path))
    first, *_ = ranks.run(after, "step_values_from", changes=CHANGES, folder=str(tmp_path))
    near(first, on_ranks.step_values(ALONE, CHANGES))
    if before == after:
        assert first == ranks.run(after, "step_values", changes=CHANGES)[0]


def test_a_row_holds_them_as_json() -> None:
    one = trial(training={"steps": ALL})
    state, data = begin(one, data_of(one)), data_of(one)
    train_epoch(state, data, never)
    (epoch,) = recorded(state)
    assert json.loads(json.dumps(epoch)) == epoch
    assert {len(values) for values in epoch.values()} == {state.steps_per_epoch}
    assert all(before != after for before, after in pairwise(epoch["loss"]))
