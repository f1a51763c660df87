"""Images a second of one trial: CIFAR-10, a CNN of 746,698 parameters, one thread, all ways in this process in turns.

    python benchmarks/cifar_cnn.py DATA        # DATA holds cifar-10-batches-py

Beside nnscan in float32 and in bfloat16: a plain script with a DataLoader, and the best loop written by hand, both of
peers/cifar_loops.py. A turn is a few steps of 64 images. Prints medians over rounds, and ratios within rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import cifar_loops
from whole_process import processor

from nnscan.data.dataset import Dataset, load
from nnscan.training.loop import train_epoch
from nnscan.training.state import begin
from nnscan.training.trial_data import TrialData
from nnscan.trial import Trial

BATCH_SIZE = cifar_loops.BATCH_SIZE
SETTINGS: dict[str, Any] = {
    "data": {
        "name": "cifar10",
        "normalization": "standard",
        "augmentation": {"crop_padding": 0, "horizontal_flip": False, "cutout": 0},
    },
    "model": {
        "name": "fully_convolutional",
        "channels": list(cifar_loops.CHANNELS),
        "kernel_size": 3,
        "dropout": cifar_loops.DROPOUT,
    },
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
        "seed": 0,
        "gradient_clip": 0.0,
        "keep": "none",
        "early_stopping": {"patience": 0, "monitor": "val_loss"},
    },
    "validation": {"holdout": 0.1, "stratified": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=8, help="steps a turn")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        dataset = load({"name": "cifar10"}, root=asked.data, cache=Path(cache), seed=0)
        ways = {
            "plain script, DataLoader": _steps_of(cifar_loops.plain(str(asked.data))),
            "best loop by hand": _steps_of(cifar_loops.best(str(asked.data))),
            "nnscan": nnscan(dataset, "float32"),
            "nnscan, bfloat16": nnscan(dataset, "bfloat16"),
        }
        seconds = measured(ways, asked.steps, asked.rounds)
    print(f"One trial of the CNN on CIFAR-10, one thread, {asked.rounds} rounds; {processor()}\n")
    print_table(seconds, asked.steps * BATCH_SIZE)


def measured(ways: dict[str, Callable[[int], None]], steps: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each turn of each way."""
    for way in ways.values():
        way(2)  # first steps allocate
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(steps)
            seconds[name].append(time.perf_counter() - started)
    return seconds


def print_table(seconds: dict[str, list[float]], images: int) -> None:
    """Print images a second, and the rate of each way by those of the two peers."""
    plain, best, *_ = seconds.values()
    print("| way | images/s, median (least, most) | of the plain script's | of the best loop's |\n|---|---|---|---|")
    for name, turns in seconds.items():
        rates = sorted(images / turn for turn in turns)
        beside = " | ".join(f"{_ratio(peer, turns):.2f}" for peer in (plain, best))
        print(f"| {name} | {statistics.median(rates):.0f} ({rates[0]:.0f}, {rates[-1]:.0f}) | {beside} |")


def _ratio(peer: list[float], turns: list[float]) -> float:
    """Return how many times as fast as the peer, the median over the rounds."""
    return statistics.median(its / own for its, own in zip(peer, turns, strict=True))


def _steps_of(loop: Iterator[None]) -> Callable[[int], None]:
    def some(steps: int) -> None:
        for _ in range(steps):
            next(loop)

    return some


def nnscan(dataset: Dataset, precision: str) -> Callable[[int], None]:
    """Return a function that trains so many steps of a trial."""
    settings = {**SETTINGS, "training": {**SETTINGS["training"], "precision": precision}}
    one = Trial(key="0" * 32, configuration="0" * 32, settings=settings, families=("benchmark",), epochs=1)
    data = TrialData.of(dataset, one, "cpu")
    state = begin(one, data)

    def some(steps: int) -> None:
        state.step, state.random = 0, None  # each turn begins an epoch, and leaves it after so many steps
        assert train_epoch(state, data, partial(_is_last, iter(range(1, steps + 1)), steps)) is None

    return some


def _is_last(done: Iterator[int], steps: int) -> bool:
    return next(done) == steps


if __name__ == "__main__":
    main()
