import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from nnscan.data.normalization import Normalization
from nnscan.errors import DataError, ScanError, StoreError
from nnscan.models.build import build
from nnscan.models.folder import ModelCard, load_model, predictions_table, save_model
from nnscan.training.parameters import flatten

torch.set_num_threads(1)

CNN = {
    "name": "cnn",
    "channels": [4],
    "kernel_size": 3,
    "batch_norm": True,
    "dropout": 0.5,
    "skip": False,
    "hidden_units": 0,
}
CLASSES = ("cat", "dog", "owl")


def tied(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, classes))
    model[2].weight = model[1].weight
    return model


def card(model: dict[str, Any], **changes: Any) -> ModelCard:
    fields: dict[str, Any] = {
        "settings": {
            "model": model,
            "data": {"name": "digits"},
            "task": {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0},
        },
        "configuration": "c" * 32,
        "input_shape": (1, 8, 8),
        "input_type": "uint8",
        "classes": CLASSES,
        "normalization": Normalization((0.02,), (-1.5,)),
        "provenance": {"nnscan": "0.1.0"},
        "results": {"test_accuracy": 0.5},
    }
    return ModelCard(**{**fields, **changes})


def trained(model: dict[str, Any]) -> nn.Module:
    """Return a network as training leaves it: flat parameters, statistics of its batches."""
    network = build(model, (1, 8, 8), 3, seed=4)
    flatten(network)
    network(torch.randn(16, 1, 8, 8))
    return network


@pytest.mark.parametrize(
    "model",
    [
        CNN,
        {"name": f"{__name__}:tied", "arguments": {}},
        {"name": "torchvision:resnet18", "weights": "none", "input_size": 32},
    ],
    ids=lambda one: one["name"],
)
def test_a_loaded_model_says_what_the_saved_one_said(model: dict[str, Any], tmp_path: Path) -> None:
    network = trained(model)
    save_model(tmp_path / "models" / "CNN", network, card(model))
    loaded = load_model(tmp_path / "models" / "CNN")
    images = torch.randint(0, 256, (70, 1, 8, 8), dtype=torch.uint8)
    with torch.inference_mode():
        expected = network.eval()(images.float() * 0.02 - 1.5).softmax(1)
    torch.testing.assert_close(loaded.predict(images), expected, rtol=1e-4, atol=1e-6)
    assert loaded.card == card(model)


def test_pretrained_weights_are_not_asked_for_again(tmp_path: Path) -> None:
    plain = {"name": "torchvision:squeezenet1_1", "weights": "none", "input_size": 32}
    named = {**plain, "weights": "IMAGENET1K_V1"}  # cannot be had here
    save_model(tmp_path / "model", trained(plain), card(named))
    assert load_model(tmp_path / "model").card.settings["model"] == named


def test_the_folder_holds_what_it_says(tmp_path: Path) -> None:
    probabilities = torch.tensor([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]])
    table = predictions_table(probabilities, torch.tensor([1, 2]), CLASSES)
    save_model(tmp_path / "model", trained(CNN), card(CNN), table)
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "model.json",
        "model.safetensors",
        "predictions.parquet",
    }
    content = json.loads((tmp_path / "model" / "model.json").read_text())
    assert content["classes"] == list(CLASSES)
    assert content["configuration"]["model"] == CNN
    assert content["results"] == {"test_accuracy": 0.5}
    first, second = pq.read_table(tmp_path / "model" / "predictions.parquet").to_pylist()
    assert (first["index"], first["label"], first["prediction"]) == (0, "dog", "dog")
    assert (second["label"], second["prediction"]) == ("owl", "cat")
    assert first["probabilities"] == pytest.approx([0.2, 0.5, 0.3])


def test_a_class_without_test_examples_leaves_valid_json(tmp_path: Path) -> None:
    results = {"test_class_accuracy": [0.5, float("nan")]}
    save_model(tmp_path / "model", trained(CNN), card(CNN, results=results))
    text = (tmp_path / "model" / "model.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)["results"] == {"test_class_accuracy": [0.5, None]}


def test_a_folder_that_is_there_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    save_model(tmp_path / "model", trained(CNN), card(CNN))
    (tmp_path / "model" / "notes.txt").write_text("of the old one")
    save_model(tmp_path / "model", trained(CNN), card(CNN, results={"test_accuracy": 0.9}))
    assert load_model(tmp_path / "model").card.results == {"test_accuracy": 0.9}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert not (tmp_path / "model" / "notes.txt").exists()


def test_a_folder_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model", trained(CNN), card(CNN))

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nnscan.models.folder.write_atomically", full)
    with pytest.raises(StoreError, match="No space left"):
        save_model(tmp_path / "model", trained(CNN), card(CNN, results={"test_accuracy": 0.9}))
    assert load_model(tmp_path / "model").card.results == {"test_accuracy": 0.5}
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def change_format(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "no card": ("model.json", Path.unlink, "is not a model folder"),
    "no weights": ("model.safetensors", Path.unlink, "is not a model folder"),
    "torn card": ("model.json", lambda path: path.write_text(path.read_text()[:100]), "is damaged"),
    "a card that is a list": ("model.json", lambda path: path.write_text("[]"), "is damaged"),
    "a card of another format": ("model.json", change_format, "this nnscan reads 1"),
    "a flipped bit in the weights": ("model.safetensors", flip_a_bit, "SHA-256"),
    "no weights in their file": ("model.safetensors", lambda path: path.write_bytes(b""), "is damaged"),
}


@pytest.mark.parametrize(("name", "damage", "told"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_told(name: str, damage: Callable[[Path], object], told: str, tmp_path: Path) -> None:
    save_model(tmp_path / "model", trained(CNN), card(CNN))
    damage(tmp_path / "model" / name)
    with pytest.raises(DataError, match=told):
        load_model(tmp_path / "model")


def test_a_users_function_that_builds_something_else_now_is_told(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    save_model(tmp_path / "model", network, card({"name": f"{__name__}:tied", "arguments": {}}))
    with pytest.raises(DataError, match=r"do not fit what .*tied"):
        load_model(tmp_path / "model")


def throws(input_shape: tuple[int, ...]) -> nn.Module:
    raise KeyError("no such thing")


def test_a_users_function_that_throws_now_is_told(tmp_path: Path) -> None:
    save_model(tmp_path / "model", trained(CNN), card({"name": f"{__name__}:throws", "arguments": {}}))
    with pytest.raises(DataError, match="no such thing"):
        load_model(tmp_path / "model")


def test_a_users_function_that_is_gone_is_told(tmp_path: Path) -> None:
    save_model(tmp_path / "model", trained(CNN), card({"name": "gone_module:build", "arguments": {}}))
    with pytest.raises(ScanError, match="gone_module"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 1, 9, 9, dtype=torch.uint8), torch.zeros(2, 1, 8, 8), torch.zeros(0, 1, 8, 8, dtype=torch.uint8)],
    ids=["shape", "type", "none"],
)
def test_examples_of_another_shape_or_type_are_refused(images: torch.Tensor, tmp_path: Path) -> None:
    save_model(tmp_path / "model", trained(CNN), card(CNN))
    with pytest.raises(DataError, match="The model takes examples of shape"):
        load_model(tmp_path / "model").predict(images)


def test_probabilities_of_a_model_trained_with_mse_are_its_outputs(tmp_path: Path) -> None:
    settings = {"model": CNN, "task": {"name": "classification", "loss": "mse", "label_smoothing": 0.0}}
    network = trained(CNN)
    with torch.no_grad():
        network[-1].weight.zero_()
        network[-1].bias.copy_(torch.tensor([0.6, 0.2, -0.1]))
    save_model(tmp_path / "model", network, card(CNN, settings=settings))
    found = load_model(tmp_path / "model").predict(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25, 0.0]]))
