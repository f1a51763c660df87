"""docs/own_model.md is true: its function trains from its scan file, and its model folder predicts."""

import re
from pathlib import Path

import pytest
import torch

from nnscan import scan
from nnscan.data.dataset import load
from nnscan.grid import configurations
from nnscan.models.build import build
from nnscan.models.folder import ModelCard, load_model, save_model
from nnscan.training import loop
from nnscan.training.state import begin
from nnscan.training.trial_data import TrialData
from nnscan.trial import Trial

torch.set_num_threads(1)

PAGE = Path(__file__).parents[2] / "docs" / "own_model.md"


def test_the_example_trains_and_its_folder_predicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text()
    code, tables = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "toml"))
    assert code is not None
    assert tables is not None
    (tmp_path / "residual.py").write_text(code[1])
    (tmp_path / "residual.toml").write_text(tables[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    grid = list(configurations(scan.load("residual.toml")))
    assert [one.settings["model"]["arguments"]["width"] for one in grid] == [16, 16, 32, 32]

    chosen = grid[-1]  # the larger width and learning rate
    trial = Trial(key="1" * 32, configuration=chosen.key, settings=chosen.settings, families=("Residual",), epochs=2)
    data = TrialData.of(load(chosen.settings["data"], root=None, cache=tmp_path, seed=0), trial, "cpu")
    state = begin(trial, data)
    rows = [loop.first_row(state, data), *(loop.train_epoch(state, data, lambda: False) or {} for _ in range(5))]
    assert rows[0]["val_accuracy"] < 0.3
    assert rows[-1]["val_accuracy"] > 0.8

    card = ModelCard(
        settings=chosen.settings,
        configuration=chosen.key,
        input_shape=data.input_shape,
        input_type="uint8",
        classes=data.dataset.classes,
        normalization=data.normalization,
    )
    save_model(tmp_path / "Residual", state.model, card)
    evaluation, probabilities = loop.test(state, data)
    found = load_model(tmp_path / "Residual").predict(data.dataset.test_images)
    torch.testing.assert_close(found, probabilities, rtol=1e-4, atol=1e-5)
    assert evaluation.accuracy > 0.8


def test_the_options_of_torchvision_are_those_it_takes(tmp_path: Path) -> None:
    tables = re.findall(r"```toml\n(model\.name = \"torchvision.*?)```", PAGE.read_text(), re.DOTALL)
    text = (
        f'[data]\nname = "digits"\n[training]\nepochs = 1\n[[grid]]\nfamily = "R"\noptimizer.name = "sgd"\n{tables[0]}'
    )
    (tmp_path / "x.toml").write_text(text)
    (chosen,) = configurations(scan.load(tmp_path / "x.toml"))
    assert chosen.settings["model"] == {"name": "torchvision:resnet18", "weights": "IMAGENET1K_V1", "input_size": 224}
    small = {**chosen.settings["model"], "weights": "none", "input_size": 32}
    assert build(small, (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
