import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trials import ADAM, ADAMW, AUGMENTATION, CNN, MLP, ONE_CYCLE, SGD, data_of, never, train, trial, untimed, weights

from nnscan.errors import StoreError
from nnscan.training.checkpoint import load_newest, remove, restore, save
from nnscan.training.loop import keep_best, train_epoch
from nnscan.training.state import begin
from nnscan.trial import Trial

torch.set_num_threads(1)


class EveryGenerator(nn.Module):
    """Draws from all global generators, and remembers in a buffer that `state_dict` leaves out."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, classes)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return self.head(images.flatten(1))
        self.calls += 1
        noise = 0.1 * torch.randn(()) + 0.1 * np.random.normal() + 0.1 * random.gauss(0, 1) + 0.01 * self.calls
        return self.head(images.flatten(1) * (1 + noise))


def every_generator(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return EveryGenerator(64, classes)


TRIALS = {
    "mlp, dropout, sgd": {"model": {**MLP, "dropout": 0.3}, "optimizer": SGD},
    "cnn, batch norm, dropout, augmentation, adam, one cycle": {
        "model": {**CNN, "dropout": 0.2},
        "optimizer": {**ADAM, "schedule": ONE_CYCLE},
        "data": {"augmentation": AUGMENTATION},
    },
    "every generator, adamw": {"model": {"name": f"{__name__}:every_generator", "arguments": {}}, "optimizer": ADAMW},
}


class After:
    """An interruption after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


def uninterrupted(one: Trial) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    data, rows = data_of(one), []
    state = begin(one, data)
    train(state, data, rows)
    return untimed(rows), weights(state.model)


@pytest.mark.parametrize("changes", TRIALS.values(), ids=TRIALS)
@pytest.mark.parametrize("steps", [1, 6, 8, 17])
def test_a_trial_resumed_within_an_epoch_equals_an_uninterrupted_one(
    changes: dict[str, Any], steps: int, tmp_path: Path
) -> None:
    one = trial(**changes)
    data, rows = data_of(one), []
    state = begin(one, data)
    assert not train(state, data, rows, After(steps))
    save(tmp_path, "w", state, rows, fingerprint="f")
    torch.manual_seed(1)  # another process
    random.seed(1)
    np.random.seed(1)
    found = load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    data = data_of(one)
    resumed, rows = restore(found, one, data), list(found.rows)
    assert resumed.steps == steps
    train(resumed, data, rows)
    expected_rows, expected = uninterrupted(one)
    assert untimed(rows) == expected_rows
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed.model).items())


@pytest.mark.parametrize("changes", TRIALS.values(), ids=TRIALS)
def test_a_trial_resumed_between_epochs_equals_an_uninterrupted_one(changes: dict[str, Any], tmp_path: Path) -> None:
    one = trial(**changes)
    data, rows = data_of(one), []
    state = begin(one, data)
    rows.append({"val_loss": 1.0})
    rows.append(train_epoch(state, data, never) or {})
    save(tmp_path, "w", state, rows, fingerprint="f")
    found = load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    resumed, rows = restore(found, one, data), list(found.rows)
    train(resumed, data, rows)
    expected_rows, expected = uninterrupted(one)
    assert untimed(rows)[1:] == expected_rows[1:]
    assert all(torch.equal(value, expected[name]) for name, value in weights(resumed.model).items())


def test_a_checkpoint_goes_on_where_it_was_saved_even_when_training_went_on_meanwhile(tmp_path: Path) -> None:
    one = trial()
    data = data_of(one)
    state = begin(one, data)
    train_epoch(state, data, never)
    save(tmp_path, "w", state, [], fingerprint="f")
    before = weights(state.model)
    train_epoch(state, data, never)
    found = load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    assert all(torch.equal(value, before[name]) for name, value in weights(restore(found, one, data).model).items())


def test_the_best_weights_and_nan_rows_come_back(tmp_path: Path) -> None:
    one = trial()
    data = data_of(one)
    state = begin(one, data)
    rows = [{"val_accuracy": 0.5, "val_loss": float("nan"), "val_class_accuracy": [0.5, float("nan")]}]
    keep_best(state, rows, "val_accuracy")
    save(tmp_path, "w", state, rows, fingerprint="f")
    found = load_newest(tmp_path, one.key, fingerprint="f").checkpoint
    assert found is not None
    assert repr(found.rows) == repr(rows)
    best = restore(found, one, data).best
    assert best is not None
    assert all(torch.equal(value, best[name]) for name, value in (state.best or {}).items())


def saved_after(steps: int, folder: Path, writer: str = "w", fingerprint: str = "f") -> Path:
    one = trial()
    data = data_of(one)
    state = begin(one, data)
    train(state, data, [], After(steps))
    return save(folder, writer, state, [], fingerprint=fingerprint)


def test_of_several_the_one_with_most_steps_counts_whoever_wrote_it(tmp_path: Path) -> None:
    saved_after(9, tmp_path, "zombie")
    newest = saved_after(10, tmp_path, "successor")
    saved_after(2, tmp_path, "other")
    found = load_newest(tmp_path, trial().key, fingerprint="f")
    assert found.checkpoint is not None
    assert (found.checkpoint.path, found.passed_over) == (newest, ())


def test_a_writer_removes_its_own_older_ones_and_no_others(tmp_path: Path) -> None:
    other = saved_after(1, tmp_path, "other")
    saved_after(2, tmp_path)
    newest = saved_after(7, tmp_path)
    assert set(tmp_path.iterdir()) == {other, newest}
    (tmp_path / f".{newest.name}.0123").touch()  # a process died while it wrote one
    another = tmp_path / f"{'1' * 32}.w.3.pt"
    another.touch()
    remove(tmp_path, trial().key)
    assert list(tmp_path.iterdir()) == [another]


@pytest.mark.parametrize("damage", ["empty", "torn", "a flipped bit in the weights", "no zip", "foreign pickle"])
def test_a_damaged_checkpoint_is_passed_over_and_told(damage: str, tmp_path: Path) -> None:
    older = saved_after(3, tmp_path, "older")
    newest = saved_after(4, tmp_path, "newest")
    content = bytearray(newest.read_bytes())
    if damage == "foreign pickle":
        torch.save({"format": 1, "rows": Path("x")}, newest)  # a class: not read with weights_only
    else:
        if damage == "a flipped bit in the weights":
            content[len(content) // 2] ^= 1
        newest.write_bytes(
            {"empty": b"", "torn": content[: len(content) // 2], "no zip": b"x" * 100}.get(damage, content)
        )
    found = load_newest(tmp_path, trial().key, fingerprint="f")
    assert found.checkpoint is not None
    assert found.checkpoint.path == older
    (told,) = found.passed_over
    assert str(newest) in told


def test_a_checkpoint_made_with_other_data_is_passed_over(tmp_path: Path) -> None:
    saved_after(3, tmp_path, fingerprint="before")
    found = load_newest(tmp_path, trial().key, fingerprint="after")
    assert found.checkpoint is None
    assert "before" in found.passed_over[0]


def test_without_a_checkpoint_nothing_is_found(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "missing", trial().key, fingerprint="f").checkpoint is None


def test_a_checkpoint_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(StoreError, match="cannot be written"):
        saved_after(1, tmp_path / "checkpoints")
