"""On a GPU: the same training as on the CPU, and the same again from a checkpoint."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from on_ranks import SIAMESE, pairs_dataset
from torch import nn
from trials import ADAM, AUGMENTATION, CNN, ONE_CYCLE, dataset, train, trial

from nnscan.training import loop
from nnscan.training.batch_norm import Presence, synchronize
from nnscan.training.checkpoint import load_newest, restore, save
from nnscan.training.state import begin
from nnscan.training.together import Together, together
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


def test_pairs_train_on_cuda_as_on_the_cpu() -> None:
    task = {"name": "pairs", "head_weight": 1.0, "digit_weight": 0.3, "prediction": "digits"}
    one = trial(model=SIAMESE, task=task, data={"normalization": "global"})
    found = {}
    for device in ("cpu", "cuda"):
        data, rows = TrialData.of(pairs_dataset(), one, device), []
        state = begin(one, data)
        train(state, data, rows)
        evaluation, probabilities = loop.test(state, data)
        assert probabilities.device.type == "cpu"
        found[device] = rows, evaluation.metrics("test")
    for name in ("val_loss", "val_head_loss", "val_digit_loss"):
        assert found["cuda"][0][1][name] == pytest.approx(found["cpu"][0][1][name], rel=1e-2)
    assert found["cuda"][1].keys() == found["cpu"][1].keys()


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


@pytest.fixture
def nccl() -> Iterator[Together]:
    """A group over NCCL; of one rank, for each needs a GPU of its own."""
    from torch.distributed import HashStore  # type: ignore[attr-defined]

    group = together(HashStore(), 0, 1, device="cuda:0", timeout=timedelta(seconds=60))
    yield group
    group.close()


def test_nccl_carries_tensors_of_the_gpu_and_gloo_those_of_the_cpu(nccl: Together) -> None:
    for device in ("cuda", "cpu"):
        values = torch.arange(3.0, device=device)
        assert torch.equal(nccl.add(values), values)
        assert torch.equal(nccl.stack(values), values[None])
        assert torch.equal(nccl.gather(values), values)
    assert (nccl.agree(True), nccl.soon(True), nccl.soon(False), nccl.tell(b"word")) == (True, False, True, b"word")


def test_a_trial_of_a_group_on_cuda_trains_as_without_one(nccl: Together, tmp_path: Path) -> None:
    one = trial(model=CNN, training={"accumulation": 2})
    data = TrialData.of(dataset(), one, "cuda:0")
    alone: list[dict[str, Any]] = []
    train(begin(one, data), data, alone)
    rows: list[dict[str, Any]] = []
    state = begin(one, data, nccl)
    train(state, data, rows)
    assert rows[-1]["train_loss"] == pytest.approx(alone[-1]["train_loss"], rel=1e-2)
    save(tmp_path, "w", state, rows, fingerprint="f")
    found = load_newest(tmp_path, one.key, fingerprint="f", group=nccl).checkpoint
    assert found is not None
    assert restore(found, one, data, nccl).epoch == one.epochs


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_synchronised_batch_normalisation_on_cuda_is_torchs_own(
    nccl: Together, memory_format: torch.memory_format
) -> None:
    whole, ours = nn.BatchNorm2d(5).double().cuda(), nn.BatchNorm2d(5).double().cuda()
    synchronize(ours, Presence(nccl))
    inputs = torch.randn(7, 5, 4, 3, dtype=torch.float64, device="cuda") + 3
    inputs = inputs.contiguous(memory_format=memory_format)
    slopes, found = torch.randn_like(inputs), []
    for module in (whole, ours):
        own = inputs.clone().requires_grad_()
        (module(own) * slopes).sum().backward()
        found.append([own.grad, module.weight.grad, module.bias.grad, module.running_mean, module.running_var])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)


def test_steps_are_recorded_on_cuda_and_go_on_from_a_checkpoint(tmp_path: Path) -> None:
    asked = ["accuracy", "gradient_norms", "loss"]
    one = trial(model=CNN, training={"steps": asked})
    found = {}
    for device in ("cpu", "cuda"):
        data = TrialData.of(dataset(), one, device)
        state = begin(one, data)
        steps = iter(range(1, 100))
        rows: list[dict[str, Any]] = []
        assert not train(state, data, rows, lambda steps=steps: next(steps) == 8)  # type: ignore[misc]
        save(tmp_path / device, "w", state, rows, fingerprint="f")
        checkpoint = load_newest(tmp_path / device, one.key, fingerprint="f").checkpoint
        assert checkpoint is not None
        resumed = restore(checkpoint, one, data)
        train(resumed, data, list(checkpoint.rows))
        assert resumed.step_values is not None
        found[device] = [resumed.step_values.of_epoch(epoch) for epoch in (1, 2)]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert list(ours) == list(theirs)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=5e-2)
