"""A grid of 60 MNIST trials as whole processes: nnscan, a loop written by hand, Optuna, Ray Tune.

The MLP 784-64-64-10, 4 learning rates x 5 folds x 3 replicates, 3 epochs, batch 64, Adam. nnscan also evaluates before
the first epoch, keeps training accuracy, every class's accuracy and tables. Optuna and Ray Tune train some of the
trials; what they take for these is scaled to all. Optuna is no dependency of nnscan: without it that way is left out.

usage: python benchmarks/mnist_grid.py DATA_ROOT [--repeat N] [--without-peers]
"""

from __future__ import annotations

import argparse
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from grids import WAYS, Way, by_hand, launched, measure, table

SCAN = """
name = "grid"
[data]
name = "mnist"
[validation]
folds = 5
replicates = 3
[training]
epochs = {epochs}
batch_size = 64
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = 64
model.depth = 2
optimizer.name = "adam"
optimizer.learning_rate = [0.01, 0.003, 0.001, 0.0001]
"""
TRIALS = 60
EPOCHS = 3
OPTUNA = "optuna_grid.py"
PEERS = {
    "Optuna, GridSampler, two processes": (OPTUNA, 4),
    "Ray Tune": ("ray_tune_plain.py", 4),
    "Ray Tune, reused actors": ("ray_tune_plain.py", 4, "--reuse"),
}
"""Scripts, and how many of the trials they train."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=lambda path: str(Path(path).absolute()))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-peers", action="store_true", help="leave Optuna and Ray Tune out: they take minutes")
    asked = parser.parse_args()
    scan = SCAN.format(epochs=EPOCHS)
    ways = [
        Way(name, partial(launched, scan, *options, "--data-root", asked.data_root)) for name, options in WAYS.items()
    ]
    ways.append(Way("loop by hand, two processes", partial(by_hand, "bare_loop.py", asked.data_root, EPOCHS)))
    if not asked.without_peers:
        there = {name: told for name, told in PEERS.items() if find_spec("optuna") or told[0] != OPTUNA}
        ways += [peer(name, asked.data_root, *told) for name, told in there.items()]
    measure(ways, asked.repeat, once=list(PEERS))
    table(f"{TRIALS} MNIST trials, {EPOCHS} epochs", ways)


def peer(name: str, data_root: str, script: str, trials: int, *options: str) -> Way:
    """Return a way that trains a part of the trials."""
    scaled_by = TRIALS / trials
    return Way(name, partial(by_hand, script, data_root, EPOCHS, trials, *options, scaled_by=scaled_by), scaled_by)


if __name__ == "__main__":
    main()
