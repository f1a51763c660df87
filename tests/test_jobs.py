"""The scan files that come along: each is accepted, says how many trials it has, and its networks fit its data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nnscan import scan
from nnscan.grid import configurations
from nnscan.identity import canonical_json
from nnscan.models.build import build
from nnscan.plan import expand
from nnscan.tasks import task

torch.set_num_threads(1)

JOBS = sorted((Path(__file__).parents[1] / "jobs").glob("*.toml"))
SHAPES = {
    "digits": (1, 8, 8),
    "mnist": (1, 28, 28),
    "fashion_mnist": (1, 28, 28),
    "cifar10": (3, 32, 32),
    "mnist_pairs": (2, 14, 14),
}
CLASSES = 10
BUILT = 40
"""Networks of a job that are built, evenly out of all: those of mnist_pairs are 768."""


def test_there_are_jobs() -> None:
    assert {path.stem for path in JOBS} >= {"digits", "mnist", "fashion_mnist", "cifar10_cnn", "muffin_chihuahua"}


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_it_has_as_many_trials_as_it_says_and_the_name_of_its_file(path: Path) -> None:
    read = scan.load(path)
    assert read.name == path.stem
    said = re.search(r"(\d+) trials", path.read_text())
    trials = int(said[1]) if said else int(re.findall(r"(\d+) configurations?", path.read_text())[0])
    assert len(expand(read).keys()) == trials


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_its_networks_take_its_images(path: Path) -> None:
    settings = [one.settings for one in configurations(scan.load(path))]
    fitting = {canonical_json([one[name] for name in ("model", "data", "task")]): one for one in settings}
    for one in list(fitting.values())[:: 1 + len(fitting) // BUILT]:
        model, data = one["model"], one["data"]
        shape = SHAPES.get(data["name"]) or (3, data["size"], data["size"])
        classes = 2 if data["name"] == "mnist_pairs" else len(model.get("class_ranges", [])) or CLASSES
        scores = task.of(one["task"], classes).scores
        outputs = build(_without_weights(model), shape, classes, scores=scores)(torch.zeros(2, *shape))
        assert scores(outputs).shape == (2, classes)


def _without_weights(model: dict[str, Any]) -> dict[str, Any]:
    """Return the table `model` without weights that would have to be downloaded."""
    return {**model, "weights": "none"} if "weights" in model else model
