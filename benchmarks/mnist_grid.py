"""A grid of 12 MNIST trials as whole processes: nnscan on local Ray, Ray Tune by hand, a loop written by hand.

The MLP 784-64-64-10, 4 learning rates x 3 replicates, 3 epochs, batch 64, Adam, 48,000 images to train and 12,000 to
validate on. nnscan also evaluates before the first epoch, keeps training accuracy, every class's accuracy and tables.

usage: python benchmarks/mnist_grid.py DATA_ROOT [--repeat N] [--without-ray]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from whole_process import ROOT, Run, processor, python, run, spread

SCAN = """
name = "grid"
[data]
name = "mnist"
[validation]
holdout = 0.2
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
EPOCHS = 3
PEERS = ROOT / "benchmarks" / "peers"


def nnscan(data_root: str) -> Run:
    """Launch the grid in a new folder: nothing is cached, nothing is there."""
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "grid.toml"
        scan.write_text(SCAN.format(epochs=EPOCHS))
        return run(python("-m", "nnscan", "launch", str(scan), "--data-root", data_root), Path(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_root", type=lambda path: str(Path(path).absolute()))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--without-ray", action="store_true", help="leave Ray Tune by hand out: it takes minutes")
    asked = parser.parse_args()
    peer = [asked.data_root, str(EPOCHS)]
    ways = {"nnscan": [], "loop by hand": []} | ({} if asked.without_ray else {"Ray Tune": [], "Ray Tune, reuse": []})
    for _ in range(asked.repeat):
        ways["nnscan"].append(nnscan(asked.data_root).seconds)
        ways["loop by hand"].append(run(python(str(PEERS / "bare_loop.py"), *peer), ROOT).seconds)
    if not asked.without_ray:  # once: several minutes, and the ratio is large
        ways["Ray Tune"].append(run(python(str(PEERS / "ray_tune_plain.py"), *peer), ROOT).seconds)
        ways["Ray Tune, reuse"].append(run(python(str(PEERS / "ray_tune_plain.py"), *peer, "--reuse"), ROOT).seconds)
    ours = statistics.median(ways["nnscan"])
    print(f"12 MNIST trials, {EPOCHS} epochs, whole process, {processor()}\n")
    print("| way | median (range) | nnscan takes |\n|---|---|---|")
    for way, seconds in ways.items():
        print(f"| {way} | {spread(seconds)} | {ours / statistics.median(seconds):.2f} of it |")


if __name__ == "__main__":
    main()
