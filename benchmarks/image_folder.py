"""An image folder: decoded once and mapped, against decoded every epoch by torchvision's ImageFolder and a DataLoader.

    python benchmarks/image_folder.py DATA [--size 128] [--batch-size 32] [--epochs 2]

DATA holds train/<class>/<image> and test/<class>/<image>. Both sides hand the training set over in shuffled batches of
normalised float32, and train nothing. Prints a table: seconds, and images decoded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from nnscan.data import batches, dataset, normalization
from nnscan.data.dataset import Dataset

T = TypeVar("T")
WORKERS = 2
ANOTHER_PROCESS = """
import sys, time
from pathlib import Path
import torch
from nnscan.data import dataset
start = time.perf_counter()
settings = {"name": "image_folder", "size": int(sys.argv[3]), "color": "rgb", "test": 0.0}
data = dataset.load(settings, root=Path(sys.argv[1]), cache=Path(sys.argv[2]), seed=0)
print(time.perf_counter() - start, data.decoded)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'':48} {'seconds':>8} {'decoded':>8}")
    with tempfile.TemporaryDirectory() as cache:
        ours(options, Path(cache))
    torchvisions(options)


def ours(options: argparse.Namespace, cache: Path) -> None:
    settings = {"name": "image_folder", "size": options.size, "color": "rgb", "test": 0.0}
    data, seconds = timed(lambda: dataset.load(settings, root=options.data, cache=cache, seed=0))
    row("nnscan: first load, builds the cache", seconds, data.decoded)
    for number in range(1, options.epochs + 1):
        _, seconds = timed(lambda number=number: run(our_epoch(data, number, options.batch_size)))
        row(f"nnscan: epoch {number}", seconds, 0)
    again, seconds = timed(lambda: dataset.load(settings, root=options.data, cache=cache, seed=0))
    row("nnscan: second load (next trial)", seconds, again.decoded)
    command = [sys.executable, "-c", ANOTHER_PROCESS, str(options.data), str(cache), str(options.size)]
    seconds_text, decoded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    row("nnscan: load in another process, imports apart", float(seconds_text), int(decoded))


def our_epoch(data: Dataset, seed: int, batch_size: int) -> Iterable[Tensor]:
    everything = torch.arange(len(data.labels))
    buffers = batches.allocate(data.images, normalization.of("none", data.images, everything), batch_size)
    for indices in torch.split(batches.epoch_order(len(data.labels), seed), batch_size):
        yield batches.take(data.images, indices, buffers)


def torchvisions(options: argparse.Namespace) -> None:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.Resize((options.size, options.size)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    folder = ImageFolder(options.data / "train", v2.Compose(steps))
    loader = DataLoader(folder, options.batch_size, shuffle=True, num_workers=WORKERS)
    for number in range(1, options.epochs + 1):
        _, seconds = timed(lambda: run(inputs for inputs, _ in loader))
        row(f"ImageFolder, DataLoader({WORKERS} workers): epoch {number}", seconds, len(folder))


def run(inputs: Iterable[Tensor]) -> int:
    return sum(len(batch) for batch in inputs)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def row(what: str, seconds: float, decoded: int) -> None:
    print(f"{what:48} {seconds:8.3f} {decoded:8d}", flush=True)


if __name__ == "__main__":
    main()
