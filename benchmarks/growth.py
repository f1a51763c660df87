"""How cost grows: seconds and memory of launches of more and more trials, of one worker and two, fused and not.

Digits, MLP 64-32-10, an epoch of 36 steps and its evaluation: a trial is as small as training gets. Memory is the most
that all processes of a launch hold at a time, pages that they share counted once.

usage: python benchmarks/growth.py [--trials 10,100,1000,10000] [--fuse off,4,16,64]
"""

from __future__ import annotations

import argparse

from grids import launched
from whole_process import processor

SCAN = """
name = "grid"
[data]
name = "digits"
test = 0.2
[validation]
holdout = 0.2
[training]
epochs = 1
batch_size = 32
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = 32
model.depth = 1
optimizer.name = "adam"
optimizer.learning_rate = [{rates}]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", default="10,100,1000,10000")
    parser.add_argument("--workers", default="1,2")
    parser.add_argument("--fuse", default="off,4,16,64")
    asked = parser.parse_args()
    print(f"Trials of 36 steps; {processor()}\n")
    print("| trials | workers | fuse | whole process | training | a trial, of a worker | memory |")
    print("|---|---|---|---|---|---|---|")
    for count in map(int, asked.trials.split(",")):
        for workers in map(int, asked.workers.split(",")):
            for fuse in asked.fuse.split(","):
                row(count, workers, fuse)


def row(count: int, workers: int, fuse: str) -> None:
    """Print what a launch took."""
    rates = ", ".join(f"{0.001 + 0.01 * number / count:.8f}" for number in range(count))
    fused = () if fuse == "-" else ("--fuse", fuse)
    found = launched(SCAN.format(rates=rates), "--cluster", "inline", "--workers", str(workers), *fused, memory=True)
    each = 1000 * found.training * workers / count
    told = f"{found.whole:.1f} s | {found.training:.1f} s | {each:.1f} ms | {found.gigabytes:.2f} GB"
    print(f"| {count:,} | {workers} | {fuse} | {told} |", flush=True)


if __name__ == "__main__":
    main()
