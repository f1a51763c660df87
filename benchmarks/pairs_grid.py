"""Training time of 20 of the 1,280 configurations of the study of pairs of digits: nnscan, the study's loop rewritten.

Four networks, one of each number of first channels, with all five learning rates, 25 epochs of 800 pairs; some of
the ten draws. Two processes of one thread; time is from the first trial's start to the last one's end, without imports.

usage: python benchmarks/pairs_grid.py DATA_ROOT [--draws 2] [--repeat N] [--options OPTIONS]
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from grids import WAYS, Way, by_hand, launched, measure, options, table
from peers.pairs_loop import BATCH_SIZE, EPOCHS, LEARNING_RATES, NETWORKS, POINTS

HEAD = f"""
name = "grid"
[data]
name = "mnist_pairs"
normalization = "global"
[validation]
holdout = 0.2
replicates = {{draws}}
[training]
epochs = {EPOCHS}
batch_size = {BATCH_SIZE}
[optimizer]
name = "sgd"
"""
GRID = f"""
[[grid]]
family = "{{family}}"
model.name = "{{kind}}"
model.first_channels = {{first}}
model.second_channels = {{second}}
model.hidden_units = {{hidden}}
model.batch_norm = {{batch_norm}}
model.skip = {{skip}}
optimizer.learning_rate = {LEARNING_RATES}
"""
SIAMESE = 'task.name = "pairs"\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=lambda path: str(Path(path).absolute()))
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--options", type=options, default=(), help="more for `nnscan launch`")
    asked = parser.parse_args()
    command = (*WAYS["nnscan"], *asked.options, "--data-root", asked.data_root)
    ways = [
        Way("nnscan", partial(launched, scan(asked.draws), *command)),
        Way("the study's loop, two processes", partial(by_hand, "pairs_loop.py", asked.data_root, asked.draws)),
    ]
    measure(ways, asked.repeat)
    table(f"{len(POINTS)} configurations x {asked.draws} draws of pairs, {EPOCHS} epochs", ways, training=True)


def scan(draws: int) -> str:
    """Return the scan file."""
    return HEAD.format(draws=draws) + "".join(grid(number, *network) for number, network in enumerate(NETWORKS))


def grid(number: int, kind: str, first: int, second: int, hidden: int, batch_norm: bool, skip: bool) -> str:
    told = GRID.format(
        family=f"{kind}{number}",
        kind=kind,
        first=first,
        second=second,
        hidden=hidden,
        batch_norm=str(batch_norm).lower(),
        skip=str(skip).lower(),
    )
    return told + (SIAMESE if kind == "siamese" else "")


if __name__ == "__main__":
    main()
