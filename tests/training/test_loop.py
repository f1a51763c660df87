"""The loop against an independent plain one, closed forms, and itself when it is interrupted."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trials import (
    ADAM,
    ADAMW,
    AUGMENTATION,
    CNN,
    MLP,
    ONE_CYCLE,
    SGD,
    data_of,
    dataset,
    never,
    train,
    trial,
    untimed,
    weights,
)

from nnscan.data.batches import epoch_order
from nnscan.identity import Purpose, seed32
from nnscan.models.build import build
from nnscan.training.loop import first_row, keep_best, test, train_epoch, train_step
from nnscan.training.state import begin
from nnscan.trial import Kind, Trial

torch.set_num_threads(1)

test.__test__ = False  # type: ignore[attr-defined]  # the function of that name is what is tested


class InFloat64(nn.Module):
    """A network that computes in float64 on float32 inputs: so two loops can be compared to the last digits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs.double())


def mlp64(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return InFloat64(build(MLP, input_shape, classes, seed=7))


def cnn64(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return InFloat64(build(CNN, input_shape, classes, seed=7))


def plain_losses(network: nn.Module, optimizer: torch.optim.Optimizer, one: Trial, epochs: int) -> list[float]:
    """Train as a script would, and return the mean training loss of each epoch."""
    data, whole = data_of(one), dataset()
    images = (whole.images.float() * (1 / 255)).double()
    losses = []
    for epoch in range(1, epochs + 1):
        order = epoch_order(len(data.training), seed32(5, Purpose.ORDER, fold=1, epoch=epoch))
        total = 0.0
        for batch in data.training[order].split(16):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(network(images[batch]), whole.labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(order))
    return losses


OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (SGD, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "adam": (ADAM, lambda p: torch.optim.Adam(p, lr=0.003, betas=(0.9, 0.99), weight_decay=0.01)),
    "adamw": (ADAMW, lambda p: torch.optim.AdamW(p, lr=0.003, betas=(0.9, 0.99), weight_decay=0.01)),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("model", "network"), [("mlp64", MLP), ("cnn64", CNN)], ids=["mlp", "cnn"])
def test_a_hundred_steps_equal_those_of_a_plain_loop(model: str, network: dict[str, Any], optimizer: str) -> None:
    settings, by_hand = OPTIMIZERS[optimizer]
    one = trial(
        model={"name": f"{__name__}:{model}", "arguments": {}},
        optimizer=settings,
        data={"normalization": "none"},
        training={"epochs": 17},  # of 6 steps
    )
    rows: list[dict[str, Any]] = []
    data = data_of(one)
    train(begin(one, data), data, rows)
    plain = build(network, (1, 8, 8), 3, seed=7).double()
    expected = plain_losses(plain, by_hand(plain.parameters()), one, epochs=17)
    assert [row["train_loss"] for row in rows[1:]] == pytest.approx(expected, rel=1e-9)
    assert expected[-1] < expected[0] / 2  # it learned: equality of two standstills would say little


def linear(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes, bias=False))
    nn.init.zeros_(network[1].weight)
    return network


def test_one_step_of_linear_regression_is_its_closed_form() -> None:
    one = trial(
        model={"name": f"{__name__}:linear", "arguments": {}},
        optimizer={**SGD, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        task={"loss": "mse"},
    )
    data = data_of(one)
    state = begin(one, data)
    train_step(state, data, data.training[:10])
    inputs, labels = data.batch(data.training[:10], state.buffers)
    # Loss |W x - y|^2 / (N C) at W = 0: the gradient is -2 y x^T / (N C).
    targets = nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(state.model[1].weight, 0.05 * 2 / 30 * targets.T @ inputs.flatten(1))


def test_gradient_clipping_bounds_the_step() -> None:
    one = trial(
        optimizer={**SGD, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}, training={"gradient_clip": 0.01}
    )
    data = data_of(one)
    state = begin(one, data)
    before = state.parameters.values[0].clone()
    train_step(state, data, data.training[:10])
    step = (state.parameters.values[0] - before).norm().item()
    assert step == pytest.approx(0.05 * 0.01, rel=1e-3)


def test_rows_hold_the_metrics_and_epoch_0_those_of_the_untrained_network() -> None:
    one = trial()
    data, rows = data_of(one), []
    state = begin(one, data)
    assert train(state, data, rows)
    assert set(rows[0]) == {"val_loss", "val_accuracy", "val_class_accuracy", "epoch_seconds"}
    more = {"train_loss", "train_accuracy", "learning_rate", "examples_per_second"}
    assert all(set(row) == set(rows[0]) | more for row in rows[1:])
    assert len(rows[0]["val_class_accuracy"]) == 3
    assert rows[-1]["val_accuracy"] > rows[0]["val_accuracy"]
    assert (state.epoch, state.step, state.steps) == (3, 0, 18)


def test_training_accuracy_counts_the_examples_as_they_were_trained_on() -> None:
    one = trial(optimizer={**SGD, "learning_rate": 0.0, "weight_decay": 0.0})
    data, whole = data_of(one), dataset()
    state = begin(one, data)
    row = train_epoch(state, data, never)
    inputs, labels = data.batch(data.training, data.buffers(len(data.training), channels_last=False))
    outputs = state.model(inputs)
    assert row is not None
    assert row["train_accuracy"] == pytest.approx((outputs.argmax(1) == labels).float().mean().item())
    assert row["train_loss"] == pytest.approx(nn.functional.cross_entropy(outputs, labels).item(), rel=1e-6)
    assert len(whole.labels) > len(labels)


def test_the_learning_rate_in_a_row_is_that_of_the_last_step() -> None:
    one = trial(optimizer={**ADAM, "schedule": ONE_CYCLE})
    data, rows = data_of(one), []
    train(begin(one, data), data, rows)
    assert rows[-1]["learning_rate"] == pytest.approx(1e-4 * 0.003)


def test_a_retraining_has_no_validation_and_its_schedule_keeps_the_length_of_the_scan() -> None:
    schedule = {"name": "step", "every": 1, "factor": 0.5}
    one = trial(kind=Kind.RETRAINING, fold=0, epochs=5, optimizer={**ADAM, "schedule": schedule})
    data, rows = data_of(one), []
    train(begin(one, data), data, rows)
    assert not any(name.startswith("val") for row in rows for name in row)
    assert [row["learning_rate"] for row in rows[1:]] == [0.003, 0.0015, 0.00075, 0.00075, 0.00075]


EVERYTHING_RANDOM = {
    "mlp": {"model": {**MLP, "dropout": 0.3}, "optimizer": SGD},
    "cnn": {
        "model": {**CNN, "dropout": 0.2},
        "optimizer": {**ADAM, "schedule": ONE_CYCLE},
        "data": {"augmentation": AUGMENTATION},
    },
}


@pytest.mark.parametrize("changes", EVERYTHING_RANDOM.values(), ids=EVERYTHING_RANDOM)
def test_a_trial_comes_out_the_same_whatever_ran_before(changes: dict[str, Any]) -> None:
    found = []
    for spoiled in (False, True):
        if spoiled:
            torch.manual_seed(99)
            torch.rand(5)
        one = trial(**changes)
        data, rows = data_of(one), []
        state = begin(one, data)
        train(state, data, rows)
        found.append((untimed(rows), weights(state.model)))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


@pytest.mark.parametrize("changes", EVERYTHING_RANDOM.values(), ids=EVERYTHING_RANDOM)
def test_an_interruption_after_every_step_changes_no_bit(changes: dict[str, Any]) -> None:
    one = trial(**changes)
    data = data_of(one)
    whole, whole_rows = begin(one, data), []
    train(whole, data, whole_rows)
    cut, cut_rows = begin(one, data), []
    interruptions = 0
    while not train(cut, data, cut_rows, lambda: True):
        interruptions += 1
        torch.rand(3)  # someone draws in between
    assert interruptions == 18
    assert untimed(cut_rows) == untimed(whole_rows)
    assert all(torch.equal(value, weights(whole.model)[name]) for name, value in weights(cut.model).items())


def test_configurations_of_a_fold_meet_the_same_start_and_order() -> None:
    one, other = trial(optimizer=SGD), trial(optimizer=ADAM)
    first, second = begin(one, data_of(one)), begin(other, data_of(other))
    assert all(torch.equal(value, weights(second.model)[name]) for name, value in weights(first.model).items())
    third = begin(trial(fold=2), data_of(trial(fold=2)))
    assert not torch.equal(first.parameters.values[0], third.parameters.values[0])


def test_a_loss_that_explodes_stands_in_the_row() -> None:
    one = trial(optimizer={**SGD, "learning_rate": 1e20})
    data = data_of(one)
    row = train_epoch(begin(one, data), data, never)
    assert row is not None
    assert not math.isfinite(row["train_loss"])


def test_bfloat16_trains_close_to_float32() -> None:
    found = {}
    for precision in ("float32", "bfloat16"):
        one = trial(training={"precision": precision})
        data, rows = data_of(one), []
        train(begin(one, data), data, rows)
        found[precision] = rows[-1]["val_loss"]
    assert found["bfloat16"] != found["float32"]
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.05)


def test_the_best_weights_are_those_of_the_best_epoch_the_first_on_ties() -> None:
    one = trial()
    state = begin(one, data_of(one))
    rows: list[dict[str, Any]] = []
    for accuracy in (0.2, 0.9, 0.5, 0.9):
        state.parameters.values[0].fill_(accuracy)
        rows.append({"val_accuracy": accuracy, "number": len(rows)})
        keep_best(state, rows, "val_accuracy")
        if len(rows) == 2:
            best = state.best
    assert best is not None
    assert state.best is best
    assert all((value == torch.tensor(0.9)).all() for value in best.values())


def test_the_test_set_is_evaluated_with_its_probabilities() -> None:
    one = trial(kind=Kind.RETRAINING)
    data, rows = data_of(one), []
    state = begin(one, data)
    train(state, data, rows)
    evaluation, probabilities = test(state, data)
    labels = dataset().test_labels
    assert probabilities.shape == (30, 3)
    assert evaluation.accuracy == (probabilities.argmax(1) == labels).float().mean().item()
    expected = -probabilities.double().log()[torch.arange(30), labels].mean().item()
    assert evaluation.loss == pytest.approx(expected, rel=1e-5)


def test_an_example_that_would_be_alone_joins_the_batch_before() -> None:
    one = trial(model=CNN, training={"batch_size": 89})  # 90 train: batch normalisation would refuse the last
    data = data_of(one)
    state = begin(one, data)
    assert train_epoch(state, data, never) is not None
    assert state.steps == 1


@pytest.mark.parametrize("task", [{"loss": "mse"}, {"label_smoothing": 0.1}], ids=str)
def test_the_task_decides_the_loss(task: dict[str, Any]) -> None:
    one = trial(task=task)
    data = data_of(one)
    row = first_row(begin(one, data), data)
    model = build(MLP, (1, 8, 8), 3, seed=seed32(5, Purpose.INITIALISATION, fold=1))
    inputs, labels = data.batch(data.validation, data.buffers(100, channels_last=False))
    expected = {
        "mse": lambda: nn.functional.mse_loss(model(inputs), nn.functional.one_hot(labels, 3).float()),
        "cross_entropy": lambda: nn.functional.cross_entropy(model(inputs), labels, label_smoothing=0.1),
    }[one.settings["task"]["loss"]]()
    assert row["val_loss"] == pytest.approx(expected.item(), rel=1e-6)


def normalizing(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, classes))


def test_an_evaluation_switches_off_dropout_and_batch_statistics() -> None:
    one = trial(model={"name": f"{__name__}:normalizing", "arguments": {}})
    data = data_of(one)
    state = begin(one, data)
    row = first_row(state, data)
    inputs, labels = data.batch(data.validation, data.buffers(100, channels_last=False))
    # Initial statistics: mean 0, variance 1.
    outputs = state.model[3](inputs.flatten(1) / math.sqrt(1 + 1e-5))
    assert row["val_loss"] == pytest.approx(nn.functional.cross_entropy(outputs, labels).item(), rel=1e-5)
    assert not state.model[1].running_mean.any()
