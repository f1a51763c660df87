"""A trial of MNIST as tutorials have it: a torchvision data set, transforms, a DataLoader. For Ray Tune and Optuna."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms

LEARNING_RATES = (1e-2, 3e-3, 1e-3, 1e-4)
SEEDS = (0, 1, 2)
FOLDS = 5
GRID = {"learning_rate": list(LEARNING_RATES), "seed": list(SEEDS), "fold": list(range(FOLDS))}
POINTS = list(product(*GRID.values()))


def train(root: str, epochs: int, learning_rate: float, seed: int, fold: int) -> Iterator[float]:
    """Yield the validation accuracy of each epoch: MLP 784-64-64-10, batch 64, Adam, 48,000 and 12,000 images."""
    torch.manual_seed(seed)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    data = torchvision.datasets.MNIST(root, train=True, transform=transform)
    parts = torch.randperm(60000, generator=torch.Generator().manual_seed(0)).chunk(FOLDS)
    training = torch.cat([part for number, part in enumerate(parts) if number != fold])
    training_batches = DataLoader(Subset(data, training.tolist()), 64, shuffle=True)
    validation_batches = DataLoader(Subset(data, parts[fold].tolist()), 64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), learning_rate)
    for _ in range(epochs):
        model.train()
        for x, y in training_batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in validation_batches)
        yield right / len(parts[fold])
