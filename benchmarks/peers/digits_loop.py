"""A plain resident loop over the grid of `digits_grid.py`: MLP 64-32-10, batch 32, Adam, one thread a process.

The first CONFIGURATIONS of the 200, each in 5 folds. usage: digits_loop.py EPOCHS CONFIGURATIONS
"""

import sys
import time
from itertools import product

import torch
import torch.multiprocessing as mp
from sklearn.datasets import load_digits
from torch import nn

LEARNING_RATES = [round(10 ** (-1.5 - k / 8), 6) for k in range(20)]
WEIGHT_DECAYS = [0.0, *(10.0**-k for k in range(2, 11))]
FOLDS = 5
POINTS = list(product(LEARNING_RATES, WEIGHT_DECAYS))


def train(job: tuple[int, float, float, int]) -> float:
    """Return the validation accuracy after the last epoch of one fold."""
    epochs, learning_rate, weight_decay, fold = job
    torch.set_num_threads(1)
    torch.manual_seed(fold)
    digits = load_digits()
    x = torch.from_numpy(digits.data).float().sub_(4.884).div_(6.017)
    y = torch.from_numpy(digits.target).long()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))[: len(y) * 4 // 5]
    parts = list(order.chunk(FOLDS))
    validation = parts.pop(fold)
    x, y, val_x, val_y = x[torch.cat(parts)], y[torch.cat(parts)], x[validation], y[validation]
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, weight_decay=weight_decay)
    criterion = nn.CrossEntropyLoss()
    accuracy = 0.0
    for _ in range(epochs):
        for batch in torch.randperm(len(y)).split(32):
            optimizer.zero_grad()
            criterion(model(x[batch]), y[batch]).backward()
            optimizer.step()
        with torch.inference_mode():
            accuracy = (model(val_x).argmax(1) == val_y).float().mean().item()
    return accuracy


def main() -> None:
    epochs, configurations = int(sys.argv[1]), int(sys.argv[2])
    jobs = [(epochs, *point, fold) for point in POINTS[:configurations] for fold in range(FOLDS)]
    with mp.get_context("spawn").Pool(2) as pool:
        pool.map(train, [(1, *jobs[0][1:])] * 2, chunksize=1)  # imports and first steps are no training
        started = time.monotonic()
        accuracies = pool.map(train, jobs, chunksize=1)
        print(f"best {max(accuracies):.4f} fit {time.monotonic() - started:.2f}")


if __name__ == "__main__":
    main()
