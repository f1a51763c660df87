"""Which examples have their maps shown, and that the maps are those of the network in the model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from reported import examples_of, predictions_of

from nnscan.data.normalization import Normalization
from nnscan.errors import NnscanError
from nnscan.models.build import build
from nnscan.models.class_activation import class_activation
from nnscan.models.folder import ModelCard, load_model, save_model
from nnscan.report.activations import PANELS, WORST_PANELS, activations, choose
from nnscan.report.examples import CLASS, WORST, examples
from nnscan.report.material import ModelFolder, _json

torch.set_num_threads(1)

CLASSES = ("cat", "dog", "owl")
CNN = {
    **{"name": "cnn", "channels": [4], "kernel_size": 3, "batch_norm": False, "dropout": 0.0, "skip": False},
    "hidden_units": 0,
}
MLP = {"name": "mlp", "width": 4, "depth": 1, "dropout": 0.0, "activation": "relu"}
TASK = {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0}
SHAPES = {"grey": (1, 8, 8), "rgb": (3, 8, 8)}


def saved(path: Path, model: dict[str, Any], shape: tuple[int, ...] = (1, 8, 8), count: int = 24) -> ModelFolder:
    """A model folder of an untrained network, with examples."""
    card = ModelCard(
        settings={"model": model, "data": {"name": "digits"}, "task": TASK},
        configuration="c" * 32,
        input_shape=shape,
        input_type="uint8",
        classes=CLASSES,
        normalization=Normalization((1 / 255,) * shape[0], (-0.5,) * shape[0]),
    )
    save_model(path, build(model, shape, 3), card, predictions_of(["cat"], [(1, 0, 0)], CLASSES))
    pixels = shape[1:] if shape[0] == 1 else (*shape[1:], 3)
    pq.write_table(examples_of(count, CLASSES, pixels), path / "examples.parquet")
    return ModelFolder(family="F", path=path, card=_json(path / "model.json"))


def test_each_class_has_its_turn_and_the_worst_come_last() -> None:
    table = examples_of(24, CLASSES)
    worst = examples(table, WORST)
    chosen = choose(examples(table, CLASS), worst, CLASSES)
    assert len(chosen) == PANELS
    assert [one.index for one in chosen[-WORST_PANELS:]] == [one.index for one in worst[:WORST_PANELS]]
    assert len({one.index for one in chosen}) == PANELS
    assert {one.label for one in chosen[: PANELS - WORST_PANELS]} == set(CLASSES)


def test_few_examples_are_all_shown() -> None:
    table = examples_of(5, CLASSES)
    assert len(choose(examples(table, CLASS), examples(table, WORST), CLASSES)) == 5


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_maps_are_those_of_the_predicted_class(tmp_path: Path, shape: tuple[int, ...]) -> None:
    model = saved(tmp_path / "F", CNN, shape)
    loaded = load_model(model.path)
    found = activations(model)
    assert len(found) == PANELS
    for one in found:
        image = one.example.image if shape[0] == 3 else one.example.image[..., None]
        stored = torch.tensor(image.transpose(2, 0, 1).copy())[None]
        place = torch.tensor([CLASSES.index(one.example.prediction)])
        (expected,) = class_activation(loaded.network, loaded.inputs(stored), place)
        np.testing.assert_allclose(one.map, expected.numpy(), atol=1e-5)
        assert one.map.shape == shape[1:]


def test_a_network_without_convolutions_has_no_maps(tmp_path: Path) -> None:
    assert activations(saved(tmp_path / "F", MLP)) == []


def test_weights_that_are_away_have_no_maps(tmp_path: Path) -> None:
    model = saved(tmp_path / "F", CNN)
    (model.path / "model.safetensors").unlink()
    assert activations(model) == []


def test_a_network_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    model = saved(tmp_path / "F", CNN)
    text = (model.path / "model.json").read_text()
    (model.path / "model.json").write_text(text.replace('"cnn"', '"no_such_module:network"'))
    with pytest.raises(NnscanError, match="no_such_module"):
        activations(model)
