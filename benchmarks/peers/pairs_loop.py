"""The loop of Nic9407/DeepLearning-EPFL, Proj1, rewritten plainly: pairs of digits, one process of one thread a core.

Pair and siamese networks on 800 of the 1,000 pairs of a draw, in their order, 25 epochs of batches of 100, SGD; the
other 200 are judged at the end. Without its norms of every gradient at every step: `pairs_grid.py` asks for none.
usage: pairs_loop.py MNIST_ROOT DRAWS
"""

from __future__ import annotations

import sys
import time
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
import torch.multiprocessing as mp
import torchvision
from torch import Tensor, nn
from torch.nn import functional


class Point(NamedTuple):
    """A configuration."""

    kind: str
    first_channels: int
    second_channels: int
    hidden_units: int
    batch_norm: bool
    skip: bool
    learning_rate: float


NETWORKS = [
    ("pair", 8, 64, 64, True, False),
    ("siamese", 16, 16, 128, True, False),
    ("siamese", 32, 8, 128, False, True),
    ("siamese", 64, 64, 64, True, False),
]
"""One of each number of first channels, in the study's grid; the last is that of its report."""

LEARNING_RATES = [0.001, 0.01, 0.1, 0.25, 1.0]
POINTS = [Point(*network, rate) for network, rate in product(NETWORKS, LEARNING_RATES)]
EPOCHS, BATCH_SIZE, DIGIT_WEIGHT = 25, 100, 10**-0.5


class Backbone(nn.Module):
    def __init__(self, channels: int, point: Point) -> None:
        super().__init__()
        first, second, hidden = point.first_channels, point.second_channels, point.hidden_units
        self.point = point
        self.conv1, self.conv2 = nn.Conv2d(channels, first, 3), nn.Conv2d(first, second, 6)
        self.dense = nn.Linear(second, hidden)
        if point.batch_norm:
            self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(first), nn.BatchNorm2d(second), nn.BatchNorm1d(hidden)
        if point.skip:
            self.skip1, self.skip2 = nn.Linear(channels * 196, first * 36), nn.Linear(channels * 196, second)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        y = self.norm1(y) if self.point.batch_norm else y
        y = y + functional.relu(self.skip1(x.flatten(1))).view(y.shape) if self.point.skip else y
        y = functional.relu(self.conv2(y))
        y = self.norm2(y) if self.point.batch_norm else y
        y = y + functional.relu(self.skip2(x.flatten(1))).view(y.shape) if self.point.skip else y
        y = functional.relu(self.dense(y.flatten(1)))
        return self.norm3(y) if self.point.batch_norm else y


class Pair(nn.Module):
    def __init__(self, point: Point) -> None:
        super().__init__()
        self.backbone, self.head = Backbone(2, point), nn.Linear(point.hidden_units, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.head(self.backbone(x))]


class Siamese(nn.Module):
    def __init__(self, point: Point) -> None:
        super().__init__()
        self.backbone, self.digits, self.head = Backbone(1, point), nn.Linear(point.hidden_units, 10), nn.Linear(20, 2)

    def forward(self, x: Tensor) -> list[Tensor]:
        first, second = (self.digits(self.backbone(x[:, side : side + 1])) for side in (0, 1))
        return [self.head(functional.relu(torch.cat([first, second], 1))), first, second]


@lru_cache(maxsize=16)
def draw(root: str, number: int) -> tuple[Tensor, Tensor]:
    """Return 1,000 normalised pairs (N, 2, 14, 14) and their targets (N, 3): which is greater, and both digits."""
    data = torchvision.datasets.MNIST(root, train=True)
    chosen = torch.randperm(len(data), generator=torch.Generator().manual_seed(number))[:2000]
    images = functional.avg_pool2d(data.data[chosen].float(), 2).view(1000, 2, 14, 14)
    digits = data.targets[chosen].view(1000, 2)
    return (images - images.mean()) / images.std(), torch.cat([(digits[:, :1] <= digits[:, 1:]).long(), digits], 1)


def train(job: tuple[str, Point, int]) -> float:
    root, point, number = job
    torch.set_num_threads(1)
    torch.manual_seed(number)
    x, y = draw(root, number)
    model = Pair(point) if point.kind == "pair" else Siamese(point)
    optimizer = torch.optim.SGD(model.parameters(), lr=point.learning_rate)
    criterion = nn.CrossEntropyLoss()
    weights = (1.0, DIGIT_WEIGHT, DIGIT_WEIGHT)
    for _ in range(EPOCHS):
        for start in range(0, 800, BATCH_SIZE):
            inputs, targets = x[start : start + BATCH_SIZE], y[start : start + BATCH_SIZE]
            outputs = enumerate(zip(weights, model(inputs), strict=False))
            loss = sum(weight * criterion(output, targets[:, column]) for column, (weight, output) in outputs)
            model.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        return (model(x[800:])[0].argmax(1) == y[800:, 0]).float().mean().item()


def main() -> None:
    root, draws = sys.argv[1], int(sys.argv[2])
    jobs = [(root, point, number) for point in POINTS for number in range(draws)]
    with mp.get_context("spawn").Pool(2) as pool:
        pool.map(train, jobs[:2], chunksize=1)  # imports and first steps are no training
        started = time.monotonic()
        accuracies = pool.map(train, jobs, chunksize=1)
        print(f"best {max(accuracies):.4f} fit {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
