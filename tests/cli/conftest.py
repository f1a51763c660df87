"""A working folder with a scan that was launched, for the tests of the commands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from commanding import Command
from typer.testing import CliRunner

from nnscan.cli import app

SCAN = """
name = "small"
[data]
name = "digits"
[validation]
holdout = 0.3
[training]
epochs = 1
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = 8
model.depth = 1
optimizer.name = "adam"
optimizer.learning_rate = [0.01, 0.001]
"""


@pytest.fixture
def nnscan() -> Command:
    """Run a command in this process."""
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def launched_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Launch the small scan, and retrain its winner, in this process."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("launched")
    (place / "small.toml").write_text(SCAN)
    for command in ("launch", "retrain-best"):
        arguments = [str(place / "small.toml"), "--scan-dir", str(place / "scans"), "--cluster", "inline"]
        result = CliRunner().invoke(app, [command, *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return place


@pytest.fixture
def launched(launched_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a working folder of one's own that holds the launched scan."""
    place = tmp_path / "work"
    shutil.copytree(launched_once, place)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
