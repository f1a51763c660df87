"""A training step on 1, 2 and 4 processes of this machine: nnscan's, and that of a DDP script written by hand.

    python benchmarks/ddp.py
    python benchmarks/ddp.py --steps 20 --rounds 3 --batch-size 128

Random images of 28x28 pixels, one thread a process, one batch size of all processes together. "By hand" is what a
careful script does: float images in memory, torch's DistributedDataParallel, a fused optimiser. It normalises each
share of a batch with its own statistics, for torch's SyncBatchNorm takes no CPU tensors; nnscan normalises the whole
batch alike, so it sends a message forth and back for each normalisation. Both are timed in turns, in the same
processes. Prints milliseconds a step, the median over rounds, and how many times faster that is than one process. More
processes than cores cannot be faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from single_trial import trial
from torch import nn
from torch.distributed import PrefixStore, TCPStore
from torch.nn.parallel import DistributedDataParallel
from whole_process import processor, python

from nnscan.data.dataset import Dataset
from nnscan.models.build import build
from nnscan.training.group import ALONE, Group
from nnscan.training.loop import train_epoch
from nnscan.training.state import begin
from nnscan.training.together import together
from nnscan.training.trial_data import TrialData

PROCESSES = (1, 2, 4)
CNN = {"name": "cnn", "kernel_size": 3, "dropout": 0.0, "skip": False, "hidden_units": 0}
MODELS: dict[str, dict[str, Any]] = {
    "MLP 784-64-64-10": {"name": "mlp", "width": 64, "depth": 2, "dropout": 0.0, "activation": "relu"},
    "CNN 16-32": {**CNN, "channels": [16, 32], "batch_norm": False},
    "CNN 16-32, batch norm": {**CNN, "channels": [16, 32], "batch_norm": True},
}


def main() -> None:
    asked = parse()
    if asked.rank is not None:
        return be_rank(asked)
    table = Table("model", "processes", "by hand, ms/step", "nnscan, ms/step", "ratio", "by hand, faster", "faster")
    found = {size: run(size, asked) for size in PROCESSES}
    for name in MODELS:
        for size in PROCESSES:
            table.add_row(*row(name, size, found))
        table.add_section()
    console = Console(width=110)
    console.print(table)
    console.print(f"{os.cpu_count()} cores ({processor()}), batches of {asked.batch_size}, gloo")
    return None


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help="steps a round and loop")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def row(name: str, size: int, found: dict[int, dict[str, list[float]]]) -> list[str]:
    by_hand, ours = found[size][name]
    plain, alone = found[1][name]
    faster = (f"{plain / by_hand:.2f} x", f"{alone / ours:.2f} x")
    return [name, str(size), f"{by_hand:.2f}", f"{ours:.2f}", f"{ours / by_hand:.2f}", *faster]


def run(size: int, asked: argparse.Namespace) -> dict[str, list[float]]:
    """Return, for each model, the milliseconds of a step by hand and of nnscan's on `size` processes."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    options = {"size": size, "port": store.port, "steps": asked.steps, "rounds": asked.rounds}
    shared = [f"--{name}={value}" for name, value in {**options, "batch-size": asked.batch_size}.items()]
    ranks = [
        subprocess.Popen(python(__file__, f"--rank={rank}", *shared), stdout=subprocess.PIPE, text=True)
        for rank in range(size)
    ]
    told, *_ = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        sys.exit("a process failed; what it said stands above")
    return dict(json.loads(told))


def be_rank(asked: argparse.Namespace) -> None:
    """Time every model as one of the processes; the first prints what came out."""
    torch.set_num_threads(1)
    group: Group = ALONE
    if asked.size > 1:
        store = PrefixStore("benchmark", TCPStore("127.0.0.1", asked.port))
        group = together(store, asked.rank, asked.size, device="cpu", timeout=timedelta(seconds=300))
    found = {name: times(model, group, asked) for name, model in MODELS.items()}
    if group.rank == 0:
        print(json.dumps(found), flush=True)
    group.close()


def times(model: dict[str, Any], group: Group, asked: argparse.Namespace) -> list[float]:
    data = dataset(asked.steps * asked.batch_size)
    loops = by_hand_loop(model, data, group, asked.batch_size), nnscan_loop(model, data, group, asked.batch_size)
    for loop in loops:  # first calls allocate
        loop(3)
    rounds = [[timed(loop, asked.steps, group) for loop in loops] for _ in range(asked.rounds)]
    return [statistics.median(column) * 1e3 / asked.steps for column in zip(*rounds, strict=True)]


def timed(loop: Callable[[int], None], steps: int, group: Group) -> float:
    group.agree(True)  # all begin at once
    start = time.perf_counter()
    loop(steps)
    return time.perf_counter() - start


def dataset(examples: int) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (examples * 5 // 4 + 16, 1, 28, 28), dtype=torch.uint8, generator=generator)
    labels = torch.arange(len(images)) % 10
    return Dataset(images, labels, images[:10], labels[:10], tuple("0123456789"), "0" * 32)


def by_hand_loop(model: dict[str, Any], data: Dataset, group: Group, batch_size: int) -> Callable[[int], None]:
    """Return a function that trains so many steps as a script would."""
    images, labels = data.images.float().div_(255).sub_(0.5), data.labels
    network = build(model, (1, 28, 28), 10)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    trained = DistributedDataParallel(network) if group.size > 1 else network
    loss_function = nn.CrossEntropyLoss()

    def loop(steps: int) -> None:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        for batch in order.split(batch_size)[:steps]:
            share = batch[group.rank :: group.size]
            optimizer.zero_grad()
            loss_function(trained(images[share]), labels[share]).backward()
            optimizer.step()

    return loop


def nnscan_loop(model: dict[str, Any], data: Dataset, group: Group, batch_size: int) -> Callable[[int], None]:
    """Return a function that trains so many steps of a trial, asking after each whether to go on, as a worker does."""
    one = trial(model)
    one = replace(one, settings={**one.settings, "training": {**one.settings["training"], "batch_size": batch_size}})
    own = TrialData.of(data, one, "cpu")
    state = begin(one, own, group)

    def loop(steps: int) -> None:
        # Each call begins an epoch: the interruption after `steps` leaves it, and what is left is not trained.
        state.step, state.random = 0, None
        done = iter(range(1, steps + 1))
        assert train_epoch(state, own, lambda: group.soon(False) or next(done) == steps) is None

    return loop


if __name__ == "__main__":
    main()
