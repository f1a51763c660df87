"""On a GPU: the same training as on the CPU, and the same again from a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trials import ADAM, AUGMENTATION, CNN, ONE_CYCLE, dataset, train, trial

from nnscan.training.checkpoint import load_newest, restore, save
from nnscan.training.state import begin
from nnscan.training.trial_data import TrialData

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_cuda_trains_as_the_cpu_does() -> None:
    one = trial(model=CNN, data={"augmentation": AUGMENTATION})
    found = {}
    for device in ("cpu", "cuda"):
        data, rows = TrialData.of(dataset(), one, device), []
        train(begin(one, data), data, rows)
        found[device] = rows
    assert found["cuda"][0]["val_loss"] == pytest.approx(
        found["cpu"][0]["val_loss"], rel=1e-2
    )  # convolutions on tensor cores have ten bits
    assert found["cuda"][1]["train_loss"] == pytest.approx(found["cpu"][1]["train_loss"], rel=1e-2)


def test_a_trial_resumed_on_cuda_draws_the_same_dropout(tmp_path: Path) -> None:
    one = trial(model={**CNN, "dropout": 0.3}, optimizer={**ADAM, "schedule": ONE_CYCLE})
    data = TrialData.of(dataset(), one, "cuda")
    whole: list[dict[str, Any]] = []
    train(begin(one, data), data, whole)
    rows: list[dict[str, Any]] = []
    state = begin(one, data)
    steps = iter(range(1, 100))
    assert not train(state, data, rows, lambda: next(steps) == 8)
    save(tmp_path, "w", state, rows, fingerprint="f")
    torch.cuda.manual_seed(99)
    found = load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    rows = list(found.rows)
    train(restore(found, one, data), data, rows)
    assert rows[-1]["train_loss"] == pytest.approx(
        whole[-1]["train_loss"], rel=1e-2
    )  # convolutions on tensor cores have ten bits


def test_bfloat16_trains_on_cuda() -> None:
    one = trial(model=CNN, training={"precision": "bfloat16", "epochs": 5})
    data, rows = TrialData.of(dataset(), one, "cuda"), []
    train(begin(one, data), data, rows)
    assert rows[-1]["val_accuracy"] > rows[0]["val_accuracy"]
