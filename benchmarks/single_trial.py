"""What a training step of nnscan costs against a hand-written loop: MNIST, one thread, both in this process in turns.

    python benchmarks/single_trial.py DATA        # DATA/MNIST/raw holds the four files
    python benchmarks/single_trial.py DATA --steps 100 --rounds 3

"By hand" is what a careful script does: float images in memory, normalised once, a fused optimiser, no `.item()`
in the loop. Ours gathers bytes, normalises each batch, and sums loss and hits besides. Prints microseconds a step and
the ratio: the median over rounds, each round timing both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from nnscan.data.dataset import Dataset, load
from nnscan.models.build import build
from nnscan.training.loop import train_epoch
from nnscan.training.state import begin
from nnscan.training.trial_data import TrialData
from nnscan.trial import Trial

MODELS: dict[str, dict[str, Any]] = {
    "MLP 784-64-64-10": {"name": "mlp", "width": 64, "depth": 2, "dropout": 0.0, "activation": "relu"},
    "CNN 16-32, batch norm": {
        "name": "cnn",
        "channels": [16, 32],
        "kernel_size": 3,
        "batch_norm": True,
        "dropout": 0.0,
        "skip": False,
        "hidden_units": 0,
    },
}
BATCH_SIZE = 64


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    table = Table("model", "by hand, µs/step", "nnscan, µs/step", "ratio", "least and largest")
    with tempfile.TemporaryDirectory() as cache:
        dataset = load({"name": "mnist", "normalization": "standard"}, root=arguments.data, cache=Path(cache), seed=0)
        for name, model in MODELS.items():
            table.add_row(name, *row(model, dataset, arguments.steps, arguments.rounds))
    Console(width=100).print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=400, help="steps a round and loop")
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


def row(model: dict[str, Any], dataset: Dataset, steps: int, rounds: int) -> list[str]:
    by_hand, ours = by_hand_loop(model, dataset), nnscan_loop(model, dataset)
    by_hand(steps), ours(steps)  # first calls allocate
    times = [(timed(by_hand, steps), timed(ours, steps)) for _ in range(rounds)]
    ratios = [mine / plain for plain, mine in times]
    medians = [statistics.median(column) * 1e6 / steps for column in zip(*times, strict=True)]
    ratio = f"{statistics.median(ratios):.2f}"
    return [f"{medians[0]:.0f}", f"{medians[1]:.0f}", ratio, f"{min(ratios):.2f} to {max(ratios):.2f}"]


def timed(loop: Callable[[int], None], steps: int) -> float:
    start = time.perf_counter()
    loop(steps)
    return time.perf_counter() - start


def by_hand_loop(model: dict[str, Any], dataset: Dataset) -> Callable[[int], None]:
    """Return a function that trains so many steps as a script would."""
    images = dataset.images.float().div_(255).sub_(0.1307).div_(0.3081)
    labels = dataset.labels
    network = build(model, (1, 28, 28), 10)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    loss_function = nn.CrossEntropyLoss()

    def loop(steps: int) -> None:
        network.train()
        for batch in torch.randperm(len(labels)).split(BATCH_SIZE)[:steps]:
            optimizer.zero_grad()
            loss_function(network(images[batch]), labels[batch]).backward()
            optimizer.step()

    return loop


def nnscan_loop(model: dict[str, Any], dataset: Dataset) -> Callable[[int], None]:
    """Return a function that trains so many steps of a trial."""
    one = trial(model)
    data = TrialData.of(dataset, one, "cpu")

    def loop(steps: int) -> None:
        # Each call begins an epoch: the interruption after `steps` leaves it, and what is left is not trained.
        state.step, state.random = 0, None
        done = iter(range(1, steps + 1))
        assert train_epoch(state, data, lambda: next(done) == steps) is None

    state = begin(one, data)
    return loop


def trial(model: dict[str, Any]) -> Trial:
    settings = {
        "data": {
            "name": "mnist",
            "normalization": "standard",
            "augmentation": {"crop_padding": 0, "horizontal_flip": False, "cutout": 0},
        },
        "model": model,
        "optimizer": {
            "name": "adam",
            "learning_rate": 1e-3,
            "betas": [0.9, 0.999],
            "epsilon": 1e-8,
            "weight_decay": 0.0,
            "schedule": {"name": "constant"},
        },
        "task": {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0},
        "training": {
            "epochs": 1,
            "batch_size": BATCH_SIZE,
            "precision": "float32",
            "seed": 0,
            "gradient_clip": 0.0,
            "keep": "none",
            "early_stopping": {"patience": 0, "monitor": "val_loss"},
        },
        "validation": {"holdout": 0.2, "stratified": True},
    }
    return Trial(key="0" * 32, configuration="0" * 32, settings=settings, families=("benchmark",), epochs=1)


if __name__ == "__main__":
    main()
