"""Training on pairs of digits: as a plain loop does it, on several ranks, and across an interruption."""

from __future__ import annotations

from typing import Any

import on_ranks
import pytest
import torch
from comparing import agree
from on_ranks import SIAMESE, named, pairs_dataset, siamese64
from ranks import Ranks
from torch.nn import functional
from trials import SGD, data_of, train, trial, untimed, weights

from nnscan.data.batches import epoch_order
from nnscan.identity import Purpose, seed32
from nnscan.training.group import ALONE
from nnscan.training.loop import test
from nnscan.training.state import begin
from nnscan.trial import Kind

torch.set_num_threads(1)

test.__test__ = False  # type: ignore[attr-defined]  # the function of that name is what is tested

TASK = {"name": "pairs", "head_weight": 1.0, "digit_weight": 0.3, "prediction": "head"}
PLAIN_SGD = {**SGD, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
CHANGES: dict[str, Any] = {
    "model": named(siamese64),
    "task": TASK,
    "optimizer": PLAIN_SGD,
    "data": {"normalization": "global"},
}


def plain_losses(epochs: int) -> list[float]:
    """Train as a script would, and return the mean training loss of each epoch."""
    one, whole = trial(**CHANGES), pairs_dataset()
    training = data_of(one, whole).training
    known = whole.images[training].double()
    images = ((whole.images.double() - known.mean()) / known.std(correction=0)).float()  # inputs are float32
    network = siamese64((2, 14, 14), 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for epoch in range(1, epochs + 1):
        order = epoch_order(len(training), seed32(5, Purpose.ORDER, fold=1, epoch=epoch))
        total = 0.0
        for batch in training[order].split(16):
            optimizer.zero_grad()
            found = network(images[batch])
            label, first, second = whole.targets[batch].unbind(1)
            read = functional.cross_entropy(found["first"], first) + functional.cross_entropy(found["second"], second)
            loss = functional.cross_entropy(found["head"], label) + 0.3 * read
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        losses.append(total / len(order))
    return losses


def test_it_trains_as_a_plain_loop_does() -> None:
    one = trial(**CHANGES, training={"epochs": 6})
    data, rows = data_of(one, pairs_dataset()), []
    train(begin(one, data), data, rows)
    expected = plain_losses(6)
    # Inputs that are normalised by one multiplication and addition differ from those of a quotient in the last digit.
    assert [row["train_loss"] for row in rows[1:]] == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < 0.9 * expected[0]
    names = {"head_accuracy", "comparison_accuracy", "digit_accuracy", "head_loss", "digit_loss"}
    assert names <= {name.removeprefix("val_") for name in rows[0]}
    assert rows[-1]["val_accuracy"] == pytest.approx(rows[-1]["val_head_accuracy"])
    assert rows[-1]["val_loss"] == pytest.approx(rows[-1]["val_head_loss"] + 0.3 * rows[-1]["val_digit_loss"])


def test_two_processes_train_what_one_does(ranks: Ranks) -> None:
    changes = {**CHANGES, "training": {"epochs": 2, "batch_size": 10}}
    agree(ranks.run(2, "train_pairs", changes=changes), on_ranks.train_pairs(ALONE, changes), 1e-6)


def test_an_interruption_after_every_step_changes_no_bit() -> None:
    one = trial(**{**CHANGES, "model": SIAMESE}, training={"epochs": 2})
    data = data_of(one, pairs_dataset())
    whole, whole_rows = begin(one, data), []
    train(whole, data, whole_rows)
    cut, cut_rows = begin(one, data), []
    while not train(cut, data, cut_rows, lambda: True):
        pass
    assert untimed(cut_rows) == untimed(whole_rows)
    assert all(torch.equal(value, weights(whole.model)[name]) for name, value in weights(cut.model).items())


@pytest.mark.parametrize("prediction", ["head", "digits"])
def test_accuracy_is_that_of_the_reading_that_predicts(prediction: str) -> None:
    one = trial(kind=Kind.RETRAINING, **{**CHANGES, "model": SIAMESE, "task": {**TASK, "prediction": prediction}})
    data = data_of(one, pairs_dataset())
    state = begin(one, data)
    train(state, data, [])
    evaluation, probabilities = test(state, data)
    named = {"head": "head_accuracy", "digits": "comparison_accuracy"}[prediction]
    assert evaluation.accuracy == pytest.approx(evaluation.more[named])
    hits = probabilities.argmax(1) == data.dataset.test_labels
    assert evaluation.accuracy == pytest.approx(hits.double().mean().item())
    assert evaluation.metrics("test")["test_digit_accuracy"] == evaluation.more["digit_accuracy"]


def test_a_pair_network_is_a_plain_classification() -> None:
    one = trial(**{**CHANGES, "model": {**SIAMESE, "name": "pair"}, "task": {}})
    data, rows = data_of(one, pairs_dataset()), []
    train(begin(one, data), data, rows)
    assert rows[-1]["train_loss"] < rows[1]["train_loss"]
