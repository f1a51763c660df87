"""Several inputs, outputs and targets, and losses that are sums: as a plain loop has them, cut anyhow, on any ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import on_ranks
import pytest
import several
import torch
from comparing import agree
from ranks import Ranks
from several import SHAPES, Sized
from torch.nn import functional
from trials import CNN, MLP, SGD, data_of, train, trial, untimed, weights

from nnscan.data.batches import epoch_order
from nnscan.data.packing import unpack
from nnscan.errors import DataError
from nnscan.identity import Purpose, seed32
from nnscan.models.folder import ModelCard, load_model, save_model
from nnscan.training.group import ALONE
from nnscan.training.loop import test
from nnscan.training.state import begin
from nnscan.trial import Kind

torch.set_num_threads(1)

test.__test__ = False  # type: ignore[attr-defined]  # the function of that name is what is tested

KINDS = ["dict", "tuple"]


def raw(kind: str = "dict", **changes: Any) -> dict[str, Any]:
    """Return the changes that make a trial one of several inputs, as they are stored."""
    return several.settings(kind, optimizer=SGD, data={"normalization": "none"}, **changes)


def plain(epochs: int) -> tuple[list[float], float, float]:
    """Train as a script would; return the mean loss of each epoch, and loss and size error of the validation."""
    whole, one = several.dataset(), trial(**raw())
    data = data_of(one, whole)
    network, task = several.network(), Sized(0.5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)
    losses = []
    for epoch in range(1, epochs + 1):
        order = epoch_order(len(data.training), seed32(5, Purpose.ORDER, fold=1, epoch=epoch))
        total = 0.0
        for batch in data.training[order].split(16):
            optimizer.zero_grad()
            outputs = network(*unpack(whole.images[batch], SHAPES))
            loss = functional.cross_entropy(outputs["head"], whole.labels[batch])
            loss = loss + 0.5 * ((outputs["size"][:, 0] - whole.targets[batch, 1]) ** 2).mean()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(order))
    network.eval()
    with torch.inference_mode():
        outputs = network(*unpack(whole.images[data.validation], SHAPES))
    targets = whole.targets[data.validation]
    return losses, task.mean_loss(outputs, targets).item(), task.metrics(outputs, targets)["size_error"].item()


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_as_a_plain_loop_does(kind: str) -> None:
    one = trial(**raw(kind, training={"epochs": 8}))
    rows: list[dict[str, Any]] = []
    data = data_of(one, several.dataset())
    train(begin(one, data), data, rows)
    losses, val_loss, size_error = plain(8)
    assert [row["train_loss"] for row in rows[1:]] == pytest.approx(losses, rel=1e-9)
    assert rows[-1]["val_loss"] == pytest.approx(val_loss, rel=1e-9)
    assert rows[-1]["val_size_error"] == pytest.approx(size_error, rel=1e-9)
    assert losses[-1] < losses[0] / 2  # it learned: equality of two standstills would say little


@pytest.mark.parametrize("network", [MLP, CNN], ids=["mlp", "cnn"])
def test_classification_is_to_the_bit_what_a_plain_task_is(network: dict[str, Any]) -> None:
    found = []
    for task in ({}, {"name": "several:PlainClassification", "arguments": {}, "metrics": []}):
        one = trial(model={**network, "dropout": 0.2}, task=task)
        data, rows = data_of(one), []
        state = begin(one, data)
        train(state, data, rows)
        evaluation, probabilities = test(state, data)
        found.append((untimed(rows), weights(state.model), evaluation, probabilities))
    (rows, first, evaluation, probabilities), other = found
    assert rows == other[0]
    assert all(torch.equal(value, other[1][name]) for name, value in first.items())
    assert evaluation == other[2]
    assert torch.equal(probabilities, other[3])


def test_an_interruption_after_every_step_changes_no_bit() -> None:
    one = trial(**several.settings())
    data = data_of(one, several.dataset())
    whole, whole_rows = begin(one, data), []
    train(whole, data, whole_rows)
    cut, cut_rows = begin(one, data), []
    while not train(cut, data, cut_rows, lambda: True):
        pass
    assert untimed(cut_rows) == untimed(whole_rows)
    assert all(torch.equal(value, weights(whole.model)[name]) for name, value in weights(cut.model).items())


SMALL_LAST = {"epochs": 3, "batch_size": 8}  # 90 examples train: the last batch has 2, fewer than 4 ranks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [{}, {"accumulation": 2}], ids=["whole", "accumulated"])
def test_two_and_four_processes_train_what_one_does(ranks: Ranks, kind: str, more: dict[str, Any]) -> None:
    network = "network" if not more else "plain_network"  # batch statistics are those of a part
    changes = raw(kind, training={**SMALL_LAST, **more})
    changes["model"] = {"name": f"several:{network}", "arguments": {"kind": kind}}
    alone = on_ranks.train_several(ALONE, changes)
    for size in (2, 4):
        agree(ranks.run(size, "train_several", changes=changes), alone, 1e-6)  # probabilities are float32


def test_a_retraining_is_tested_and_its_folder_predicts(tmp_path: Path) -> None:
    one = trial(kind=Kind.RETRAINING, **several.settings("tuple"))
    data = data_of(one, several.dataset())
    state = begin(one, data)
    train(state, data, [])
    evaluation, probabilities = test(state, data)
    assert list(evaluation.metrics("test")) == ["test_loss", "test_accuracy", "test_class_accuracy", "test_size_error"]

    card = ModelCard(
        settings=one.settings,
        configuration="c" * 32,
        input_shape=data.input_shape,
        input_type="float32",
        input_shapes=SHAPES,
        classes=data.dataset.classes,
        normalization=data.normalization,
    )
    save_model(tmp_path / "model", state.model, card)
    loaded = load_model(tmp_path / "model")
    assert loaded.card == card
    torch.testing.assert_close(loaded.predict(data.dataset.test_images), probabilities)
    inputs = unpack(data.dataset.test_images, SHAPES)
    torch.testing.assert_close(loaded.predict(inputs), probabilities)
    with pytest.raises(
        DataError, match=r"takes inputs of shapes \(\(1, 4, 8\), \(4, 8\)\); found \(\(4, 8\), \(1, 4, 8\)\)"
    ):
        loaded.predict(inputs[::-1])


def test_nnscans_own_networks_see_several_inputs_as_one_row() -> None:
    one = trial(model=MLP)
    data = data_of(one, several.dataset())
    state = begin(one, data)
    rows: list[dict[str, Any]] = []
    assert train(state, data, rows)
    assert rows[-1]["val_accuracy"] > rows[0]["val_accuracy"]


def test_a_network_of_images_says_what_it_cannot_take() -> None:
    one = trial(model=CNN)
    with pytest.raises(ValueError, match="takes images of shape"):
        begin(one, data_of(one, several.dataset()))
