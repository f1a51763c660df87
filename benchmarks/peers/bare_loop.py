"""The limit a careful engineer reaches by hand: data resident as tensors, two processes of one thread.

The grid of `mnist_grid.py`: the MNIST MLP 784-64-64-10, 4 learning rates x 3 seeds, batch 64, Adam, 48k/12k split.
usage: bare_loop.py DATA_ROOT EPOCHS
"""

import sys
import time

import torch
import torch.multiprocessing as mp
import torchvision
from torch import nn

LEARNING_RATES = (1e-2, 3e-3, 1e-3, 1e-4)
SEEDS = (0, 1, 2)


def train(job: tuple[str, int, float, int]) -> float:
    root, epochs, learning_rate, seed = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = torchvision.datasets.MNIST(root, train=True)
    inputs = data.data.flatten(1).float().div_(255).sub_(0.1307).div_(0.3081)
    order = torch.randperm(60000, generator=torch.Generator().manual_seed(0))
    training, validation = order[:48000], order[48000:]
    x, y, val_x, val_y = inputs[training], data.targets[training], inputs[validation], data.targets[validation]
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    accuracy = 0.0
    for _ in range(epochs):
        for batch in torch.randperm(48000).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.inference_mode():
            accuracy = (model(val_x).argmax(1) == val_y).float().mean().item()
    return accuracy


def main() -> None:
    started = time.monotonic()
    root, epochs = sys.argv[1], int(sys.argv[2])
    jobs = [(root, epochs, learning_rate, seed) for learning_rate in LEARNING_RATES for seed in SEEDS]
    with mp.get_context("spawn").Pool(2) as pool:
        accuracies = pool.map(train, jobs, chunksize=1)
    print(f"best {max(accuracies):.4f} seconds {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
