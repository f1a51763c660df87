"""The limit a careful engineer reaches by hand: data resident as tensors, two processes of one thread.

The grid of `mnist_grid.py`: the MNIST MLP 784-64-64-10, 4 learning rates x 3 seeds x 5 folds, batch 64, Adam.
usage: bare_loop.py DATA_ROOT EPOCHS
"""

import sys
import time

import torch
import torch.multiprocessing as mp
import torchvision
from torch import Tensor, nn

LEARNING_RATES = (1e-2, 3e-3, 1e-3, 1e-4)
SEEDS = (0, 1, 2)
FOLDS = 5

inputs = targets = torch.empty(0)


def load(root: str) -> None:
    """Read the data once a process."""
    global inputs, targets
    torch.set_num_threads(1)
    data = torchvision.datasets.MNIST(root, train=True)
    inputs, targets = data.data.flatten(1).float().div_(255).sub_(0.1307).div_(0.3081), data.targets


def parts(fold: int) -> tuple[Tensor, Tensor]:
    chunks = list(torch.randperm(60000, generator=torch.Generator().manual_seed(0)).chunk(FOLDS))
    validation = chunks.pop(fold)
    return torch.cat(chunks), validation


def train(job: tuple[int, float, int, int]) -> float:
    epochs, learning_rate, seed, fold = job
    torch.manual_seed(seed)
    training, validation = parts(fold)
    x, y, val_x, val_y = inputs[training], targets[training], inputs[validation], targets[validation]
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    accuracy = 0.0
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.inference_mode():
            accuracy = (model(val_x).argmax(1) == val_y).float().mean().item()
    return accuracy


def main() -> None:
    root, epochs = sys.argv[1], int(sys.argv[2])
    jobs = [(epochs, rate, seed, fold) for fold in range(FOLDS) for rate in LEARNING_RATES for seed in SEEDS]
    started = time.monotonic()
    with mp.get_context("spawn").Pool(2, load, (root,)) as pool:
        accuracies = pool.map(train, jobs, chunksize=1)
    print(f"best {max(accuracies):.4f} fit {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
