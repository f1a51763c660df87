"""The training on real data: accuracies that a network of this size is known to reach."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trials import ADAM, CNN, MLP, ONE_CYCLE, data_of, train, trial

from nnscan.data.dataset import load
from nnscan.training.loop import test
from nnscan.training.state import begin
from nnscan.trial import Kind

torch.set_num_threads(1)

test.__test__ = False  # type: ignore[attr-defined]  # the function of that name is what is tested


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
