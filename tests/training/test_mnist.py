"""The training on real data: accuracies that a network of this size is known to reach."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trials import ADAM, CNN, MLP, ONE_CYCLE, SGD, data_of, train, trial

from nnscan.data.dataset import load
from nnscan.training.loop import test
from nnscan.training.state import begin
from nnscan.trial import Kind

torch.set_num_threads(1)

SIAMESE = {
    "name": "siamese",
    "first_channels": 64,
    "second_channels": 64,
    "hidden_units": 64,
    "batch_norm": True,
    "skip": False,
}

test.__test__ = False  # type: ignore[attr-defined]  # the function of that name is what is tested


@pytest.mark.slow
@pytest.mark.parametrize(("digits", "accuracy"), [(True, 0.95), (False, 0.88)], ids=["siamese 10", "siamese 2"])
def test_pairs_are_compared_by_reading_digits(digits: bool, accuracy: float, data_root: Path, tmp_path: Path) -> None:
    """Published: .977 and .929, means over 10 draws, of networks that the test pairs had chosen."""
    prediction = "digits" if digits else "head"
    table = {"name": "mnist_pairs", "pairs": 1000, "test_pairs": 1000, "normalization": "global"}
    one = trial(
        kind=Kind.RETRAINING,
        data=table,
        model=SIAMESE,
        optimizer={**SGD, "learning_rate": 0.25, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        task={"name": "pairs", "head_weight": 1.0 - digits, "digit_weight": 1.0, "prediction": prediction},
        training={"epochs": 25, "batch_size": 100},
    )
    data = data_of(one, load(table, root=data_root, cache=tmp_path, seed=0))
    state = begin(one, data)
    train(state, data, [])
    evaluation, _ = test(state, data)
    assert evaluation.accuracy >= accuracy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "epochs", "accuracy"),
    [
        ({**MLP, "width": 64}, 5, 0.97),
        ({**CNN, "channels": [16, 32], "skip": False, "hidden_units": 0}, 2, 0.985),
    ],
    ids=["mlp", "cnn"],
)
def test_mnist_is_learned(model: dict[str, Any], epochs: int, accuracy: float, data_root: Path, tmp_path: Path) -> None:
    one = trial(
        kind=Kind.RETRAINING,
        data={"name": "mnist"},
        model=model,
        optimizer={**ADAM, "weight_decay": 0.0, "betas": [0.9, 0.999], "schedule": ONE_CYCLE},
        training={"epochs": epochs, "batch_size": 64},
    )
    data = data_of(one, load({"name": "mnist"}, root=data_root, cache=tmp_path, seed=0))
    state = begin(one, data)
    train(state, data, [])
    evaluation, _ = test(state, data)
    assert evaluation.accuracy >= accuracy
