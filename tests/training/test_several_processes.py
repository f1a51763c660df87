"""A trial on several real processes: the same as on one, and as a plain loop has it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import on_ranks
import pandas
import pytest
import safetensors.torch
import torch
from comparing import agree, near
from on_ranks import cnn64, mlp64, named, unusual64
from ranks import Ranks
from torch import nn
from trials import ADAM, ADAMW, AUGMENTATION, CNN, MLP, ONE_CYCLE, SGD, data_of, dataset, trial

from nnscan.data import augmentation
from nnscan.data.batches import epoch_order
from nnscan.data.dataset import load
from nnscan.identity import Purpose, seed32
from nnscan.models.build import build
from nnscan.models.folder import load_model
from nnscan.training.group import ALONE

torch.set_num_threads(1)

EPOCHS = 5  # of 12 steps: the first 50 steps, and more
SMALL_LAST = {"epochs": EPOCHS, "batch_size": 8}  # 90 examples train: the last batch has 2, fewer than 4 ranks
OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (SGD, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "adam": (ADAM, lambda p: torch.optim.Adam(p, lr=0.003, betas=(0.9, 0.99), weight_decay=0.01)),
    "adamw": (ADAMW, lambda p: torch.optim.AdamW(p, lr=0.003, betas=(0.9, 0.99), weight_decay=0.01)),
}
NETWORKS = {"mlp": (mlp64, MLP), "cnn": (cnn64, CNN)}


def plain_losses(model: nn.Module, optimizer: torch.optim.Optimizer, changes: dict[str, Any]) -> list[float]:
    """Train as a script would, on one process, and return the loss of each batch."""
    one, whole = trial(**changes), dataset()
    training = data_of(one).training
    losses = []
    for epoch in range(1, EPOCHS + 1):
        order = epoch_order(len(training), seed32(5, Purpose.ORDER, fold=1, epoch=epoch))
        generator = torch.Generator().manual_seed(seed32(5, Purpose.AUGMENTATION, fold=1, epoch=epoch))
        for batch in training[order].split(one.settings["training"]["batch_size"]):
            draws = augmentation.draw(len(batch), AUGMENTATION, generator, (1, 8, 8))
            images = augmentation.apply(whole.images[batch], draws)
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images * torch.tensor(1 / 255)), whole.labels[batch])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def changes_of(model: dict[str, Any], optimizer: dict[str, Any]) -> dict[str, Any]:
    data = {"normalization": "none", "augmentation": AUGMENTATION}
    return {"model": model, "optimizer": optimizer, "data": data, "training": SMALL_LAST}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_two_and_four_processes_train_what_one_does_and_what_a_plain_loop_does(
    ranks: Ranks, network: str, optimizer: str
) -> None:
    build, plain = NETWORKS[network][0], NETWORKS[network][0]((1, 8, 8), 3)
    settings, by_hand = OPTIMIZERS[optimizer]
    changes = changes_of(named(build), settings)
    losses = plain_losses(plain, by_hand(plain.parameters()), changes)
    alone = on_ranks.train(ALONE, changes)
    near(alone["losses"], losses, 1e-9)
    assert losses[-1] < losses[0] / 2  # it learned: equality of two standstills would say little
    for size in (2, 4):
        agree(ranks.run(size, "train", changes=changes), alone, 1e-9)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_in_float32_the_losses_of_50_steps_agree_to_1e_4(ranks: Ranks, network: str, optimizer: str) -> None:
    changes = changes_of(NETWORKS[network][1], OPTIMIZERS[optimizer][0])
    alone = on_ranks.train(ALONE, changes)
    for size in (2, 4):
        found = ranks.run(size, "train", changes=changes)
        assert len({rank["weights"] for rank in found}) == 1
        near(found[0]["losses"][:50], alone["losses"][:50], 1e-4)
        near(found[0]["rows"][:5], alone["rows"][:5], 1e-3)


def test_all_ranks_start_from_the_same_weights(ranks: Ranks, tmp_path: Path) -> None:
    content = safetensors.torch.save(build(CNN, (1, 8, 8), 3, seed=99).state_dict())
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / digest).write_bytes(content)
    changes = {"model": CNN, "training": {**SMALL_LAST, "epochs": 1, "warm_start": f"sha256:{digest}"}}
    alone = on_ranks.train(ALONE, changes, weights=str(tmp_path))
    cold = on_ranks.train(ALONE, {"model": CNN, "training": {**SMALL_LAST, "epochs": 1}})
    assert alone["rows"][0] != cold["rows"][0]
    found = ranks.run(2, "train", changes=changes, weights=str(tmp_path))
    assert found[0] == found[1]
    near(found[0]["rows"], alone["rows"], 1e-3)


EVERYTHING = {
    "model": named(unusual64),
    "optimizer": {**SGD, "schedule": ONE_CYCLE},
    "task": {"label_smoothing": 0.1},
    "training": {**SMALL_LAST, "gradient_clip": 0.2, "keep": "best"},
}


@pytest.mark.parametrize("more", [{}, {"accumulation": 2}], ids=str)
def test_a_network_that_takes_no_empty_batch_and_leaves_parts_unused_trains_too(
    ranks: Ranks, more: dict[str, Any]
) -> None:
    changes = {**EVERYTHING, "training": {**EVERYTHING["training"], **more}}
    few = {"tests": 3}  # of 4 ranks one has no share in the test either
    alone = on_ranks.train(ALONE, changes, few)
    for size in (2, 4):
        agree(ranks.run(size, "train", changes=changes, of=few), alone, 1e-9)


@pytest.mark.parametrize("batch_size", [4, 6, 10])
@pytest.mark.parametrize("examples", [10, 9, 7, 1])
def test_accumulation_gives_the_gradient_of_the_whole_batch(batch_size: int, examples: int) -> None:
    def changes(accumulation: int) -> dict[str, Any]:
        training = {"batch_size": batch_size, "accumulation": accumulation}
        return {"model": named(mlp64), "optimizer": SGD, "training": training}

    whole = on_ranks.gradients(ALONE, changes(1), examples)
    for accumulation in (2, batch_size):
        found = on_ranks.gradients(ALONE, changes(accumulation), examples)
        near(found, whole, 1e-14)


def test_gradients_travel_with_the_last_part_of_a_batch_alone(ranks: Ranks) -> None:
    changes = {"training": {"batch_size": 32, "accumulation": 4}}  # 90: two whole batches, and 26: 8, 8, 8 and 2
    whole = [[4, True, False]] * 3 + [[4, True, True]]
    expected = whole * 2 + [[4, True, False]] * 3 + [[1, True, True]]
    assert ranks.run(2, "passes", changes=changes) == [expected] * 2
    assert on_ranks.passes(ALONE, changes) == [[2 * count, *rest[:-1], True] for count, *rest in expected]


def test_an_example_that_would_be_alone_in_its_part_joins_the_one_before() -> None:
    changes = {"training": {"batch_size": 44, "accumulation": 2}, "model": CNN}  # 90: 44, 44 and 2
    assert [count for count, *_ in on_ranks.passes(ALONE, changes)] == [22, 22, 22, 22, 2]
    changes = {"training": {"batch_size": 89, "accumulation": 1}, "model": CNN}
    assert [count for count, *_ in on_ranks.passes(ALONE, changes)] == [90 - 1, 1]  # train_step takes what it is given


def test_each_rank_draws_for_itself_and_the_first_what_one_process_draws(ranks: Ranks) -> None:
    found = ranks.run(2, "draw")
    assert found[0] == on_ranks.draw(ALONE)
    assert all(one != other for one, other in zip(*found, strict=True))


# ---------------------------------------------------------------------------------------------- checkpoints


HARD = {
    "model": {**CNN, "dropout": 0.2},
    "optimizer": {**ADAM, "schedule": ONE_CYCLE},
    "data": {"augmentation": AUGMENTATION},
}


@pytest.mark.parametrize("size", [2, 3])
def test_a_resumed_trial_equals_an_uninterrupted_one_to_the_bit(ranks: Ranks, size: int, tmp_path: Path) -> None:
    steps = [0, 1, 6, 8]  # 0: between two epochs; 6: after an epoch's last step
    found = ranks.run(size, "resume", changes=HARD, steps=steps, folder=str(tmp_path))
    (whole, *resumed), *others = found
    assert resumed == [whole] * len(steps)
    assert others == [found[0]] * (size - 1)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_trial_goes_on_with_another_number_of_processes(
    ranks: Ranks, before: int, after: int, tmp_path: Path
) -> None:
    changes = {"model": named(cnn64), "optimizer": SGD, "data": {"augmentation": AUGMENTATION}}
    ranks.run(before, "save_after", changes=changes, steps=8, folder=str(tmp_path))
    expected, _ = on_ranks.resume(ALONE, changes, [], "")[0]
    found = ranks.run(after, "load_and_train", changes=changes, folder=str(tmp_path))
    assert all(one == found[0] for one in found)
    near(found[0][0], expected, 1e-9)


def test_with_another_number_of_processes_dropout_goes_on_with_fresh_draws(ranks: Ranks, tmp_path: Path) -> None:
    ranks.run(1, "save_after", changes=HARD, steps=8, folder=str(tmp_path))
    first, again = (ranks.run(2, "load_and_train", changes=HARD, folder=str(tmp_path)) for _ in range(2))
    assert first == again


def test_a_checkpoint_of_one_process_is_as_it_was(tmp_path: Path) -> None:
    on_ranks.save_after(ALONE, HARD, 8, str(tmp_path))
    (file,) = tmp_path.iterdir()
    content = torch.load(file, weights_only=True)
    told = {"format", "numerics", "fingerprint", "rows", "model", "buffers", "optimizer", "epoch", "step"}
    assert set(content) == told | {"augmentation", "loss", "hits", "examples", "seconds", "random", "best"}
    assert content["loss"].shape == ()


# ---------------------------------------------------------------------------------------------- whole trials


@pytest.fixture(autouse=True)
def near_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


DIGITS = {"training": {"epochs": 2, "batch_size": 128}, "optimizer": SGD}


def test_rank_0_writes_checkpoints_and_the_best_weights(ranks: Ranks, tmp_path: Path) -> None:
    changes = {**DIGITS, "training": {**DIGITS["training"], "keep": "best"}, "model": CNN}
    found = ranks.run(2, "network_trial", changes=changes, folder=str(tmp_path / "scan"))
    alone = on_ranks.network_trial(ALONE, changes, str(tmp_path / "alone"))
    assert found[0] == found[1]
    (checkpoint,) = found[0]["files"]
    assert ".w0." in checkpoint
    assert not list((tmp_path / "scan" / "checkpoints").iterdir())
    near(found[0]["rows"], alone["rows"], 1e-4)
    ours, theirs = (load_model(next((tmp_path / name / "kept").iterdir())) for name in ("scan", "alone"))
    weights = theirs.network.state_dict()
    assert ours.network.state_dict().keys() == weights.keys()
    for name, value in ours.network.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-3, atol=1e-4)


def test_rank_0_keeps_the_weights_of_every_so_many_epochs(ranks: Ranks, tmp_path: Path) -> None:
    changes = {**DIGITS, "training": {**DIGITS["training"], "keep_every": 1}}
    found = ranks.run(2, "network_trial", changes=changes, folder=str(tmp_path / "scan"))
    assert found[0] == found[1]
    kept = sorted((tmp_path / "scan" / "kept").iterdir())
    assert [path.name.partition(".")[2] for path in kept] == ["epoch-0001", "epoch-0002"]
    model = load_model(kept[1])
    assert on_ranks.digest(list(model.network.state_dict().values())) == found[0]["weights"]


def test_weights_that_rank_0_cannot_keep_end_all_ranks_alike(ranks: Ranks, tmp_path: Path) -> None:
    changes = {**DIGITS, "training": {**DIGITS["training"], "keep_every": 1}}
    found = ranks.run(2, "refused_weights", changes=changes, folder=str(tmp_path / "scan"))
    assert "cannot write" in found[0]
    assert "rank 0 says why" in found[1]


def test_a_retraining_leaves_a_model_that_one_process_loads(ranks: Ranks, tmp_path: Path) -> None:
    changes = {**DIGITS, "kind": "retraining", "model": CNN}
    found = ranks.run(2, "network_trial", changes=changes, folder=str(tmp_path / "scan"))
    assert found[0] == found[1]
    told = found[0]["more"]
    model = load_model(tmp_path / "scan" / "models" / "T")
    settings = trial(data={"name": "digits"}).settings["data"]
    data = load(settings, root=None, cache=tmp_path / ".cache", seed=5)
    hits = model.predict(data.test_images).argmax(1) == data.test_labels
    assert told["test_accuracy"] == pytest.approx(hits.double().mean().item())

    predictions = pandas.read_parquet(tmp_path / "scan" / "models" / "T" / "predictions.parquet")
    assert predictions["label"].tolist() == [data.classes[label] for label in data.test_labels]
    assert (predictions["prediction"] == predictions["label"]).mean() == pytest.approx(told["test_accuracy"])


@pytest.mark.parametrize("rank", [0, 1])
def test_an_allocation_that_ends_for_one_rank_ends_all_at_one_step_with_the_training_saved(
    ranks: Ranks, rank: int, tmp_path: Path
) -> None:
    changes = {**DIGITS, "model": {**CNN, "dropout": 0.2}}
    whole = ranks.run(2, "network_trial", changes=changes, folder=str(tmp_path / "whole"))
    folder = str(tmp_path / "scan")
    found = ranks.run(2, "interrupted_trial", changes=changes, folder=folder, steps=3, rank=rank)
    for stopped, resumed in found:
        assert stopped == [4, "time limit"]  # what was asked after a step is known after the next
        assert {**resumed, "files": []} == {**whole[0], "files": []}


THROWN = {
    "taken over": "TakenOverError",
    "no disk": "StoreError",
    "other data": "DataError",
    "own": "ValueError",
}


@pytest.mark.parametrize("what", THROWN)
def test_what_is_wrong_for_one_rank_ends_all_alike(ranks: Ranks, what: str, tmp_path: Path) -> None:
    found = ranks.run(2, "refused", what=what, folder=str(tmp_path / "scan"))
    assert [rank["threw"] for rank in found] == [THROWN[what]] * 2


def test_mnist_on_two_processes_is_mnist_on_one(ranks: Ranks, data_root: Path, tmp_path: Path) -> None:
    changes = {
        "data": {"name": "mnist"},
        "model": {**MLP, "width": 32},
        "optimizer": {**ADAM, "schedule": ONE_CYCLE},
        "training": {"epochs": 1, "batch_size": 512},
    }
    places = {"root": str(data_root), "cache": str(tmp_path)}
    alone = on_ranks.mnist(ALONE, changes, **places)
    found = ranks.run(2, "mnist", changes=changes, **places)
    assert found[0] == found[1]
    assert found[0]["test_accuracy"] > 0.9
    near(found[0]["losses"][:50], alone["losses"][:50], 1e-4)
    near(found[0]["test_accuracy"], alone["test_accuracy"], 1e-3)
