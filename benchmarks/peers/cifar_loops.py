"""CIFAR-10 with the network of convolutions of lucacicchese/DLA_LABS, as scripts train it: plainly, and at best.

Each function yields after every step of 64 images. Channels 64-128-256-128-64, dropout of whole channels, Adam.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

MEAN, DEVIATION = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CHANNELS = (64, 128, 256, 128, 64)
BATCH_SIZE = 64
DROPOUT = 0.3


def plain(root: str) -> Iterator[None]:
    """Train as a tutorial does: torchvision's data set, transforms, a DataLoader, `loss.item()`."""
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])
    loader = DataLoader(torchvision.datasets.CIFAR10(root, transform=steps), BATCH_SIZE, shuffle=True)
    blocks: list[nn.Module] = []
    for inputs, outputs in zip((3, *CHANNELS), CHANNELS, strict=False):
        blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        blocks += [nn.Dropout2d(DROPOUT), nn.MaxPool2d(2)]
    model = nn.Sequential(*blocks, nn.Conv2d(CHANNELS[-1], 10, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    running_loss = 0.0
    model.train()
    while True:
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
            yield


def best(root: str) -> Iterator[None]:
    """Train as fast as eager torch does it: resident floats and weights channels last, a fused optimiser, no waiting.

    Pooling comes before ReLU and dropout, which gives the same numbers for a quarter of their work.
    """
    images, labels = _resident(root)
    blocks: list[nn.Module] = []
    for inputs, outputs in zip((3, *CHANNELS), CHANNELS, strict=False):
        blocks += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.MaxPool2d(2)]
        blocks += [nn.ReLU(inplace=True), nn.Dropout2d(DROPOUT)]
    head = [nn.Conv2d(CHANNELS[-1], 10, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*blocks, *head).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    while True:
        for batch in torch.randperm(len(labels)).split(BATCH_SIZE):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            yield


def _resident(root: str) -> tuple[Tensor, Tensor]:
    data = torchvision.datasets.CIFAR10(root)
    images = torch.from_numpy(data.data).permute(0, 3, 1, 2).float().div_(255)  # in memory channels last already
    images = images.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(DEVIATION).view(3, 1, 1))
    return images, torch.tensor(data.targets)
