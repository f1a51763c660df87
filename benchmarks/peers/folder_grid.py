"""MP_1 of Tortar/ML_project over an image folder: how a script trains it, plainly and at best.

`plain` decodes every image in every epoch, as ImageFolder and a DataLoader do; `resident` decodes all once a process.
Used by ray_tune_folder.py; as a script it is the loop by hand, two processes of one thread over the first POINTS.
usage: folder_grid.py FOLDER EPOCHS POINTS
"""

from __future__ import annotations

import sys
import time
from functools import lru_cache
from itertools import product

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

SIZE, WIDTH, BATCH_SIZE = 128, 128, 32
LEARNING_RATES = [round(10 ** (-1 - k / 4), 6) for k in range(12)]
POINTS = list(product(["sgd", "adam"], LEARNING_RATES))
STEPS = v2.Compose([v2.Resize((SIZE, SIZE)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def network() -> nn.Sequential:
    inner = [nn.Linear(3 * SIZE * SIZE, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2)]
    return nn.Sequential(nn.Flatten(), *inner)


def optimizer(model: nn.Module, name: str, learning_rate: float, **options: bool) -> torch.optim.Optimizer:
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[name]
    return kind(model.parameters(), lr=learning_rate, **options)


def split(count: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[: count * 4 // 5], order[count * 4 // 5 :]


def plain(folder: str, epochs: int, name: str, learning_rate: float) -> float:
    """Return the validation accuracy after the last epoch: ImageFolder, DataLoader, the default optimiser."""
    torch.manual_seed(0)
    data = ImageFolder(f"{folder}/train", STEPS)
    training, validation = split(len(data))
    batches = DataLoader(Subset(data, training.tolist()), BATCH_SIZE, shuffle=True)
    judged = DataLoader(Subset(data, validation.tolist()), BATCH_SIZE)
    model, criterion = network(), nn.CrossEntropyLoss()
    steps = optimizer(model, name, learning_rate)
    right = 0
    for _ in range(epochs):
        model.train()
        for x, y in batches:
            steps.zero_grad()
            criterion(model(x), y).backward()
            steps.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in judged)
    return right / len(validation)


@lru_cache(maxsize=1)
def decoded(folder: str) -> tuple[Tensor, Tensor]:
    """Return all images as bytes: as floats they would take four times the memory, in each process."""
    torch.set_num_threads(1)
    data = ImageFolder(f"{folder}/train", v2.Compose([v2.Resize((SIZE, SIZE)), v2.ToImage()]))
    return torch.stack([image for image, _ in data]), torch.tensor(data.targets)


def resident(job: tuple[str, int, str, float]) -> float:
    """Return the same of a loop over resident images with a fused optimiser."""
    folder, epochs, name, learning_rate = job
    images, labels = decoded(folder)
    torch.manual_seed(0)
    training, validation = split(len(labels))
    model = network()
    steps = optimizer(model, name, learning_rate, fused=True)
    right = 0
    for _ in range(epochs):
        for batch in training[torch.randperm(len(training))].split(BATCH_SIZE):
            steps.zero_grad()
            nn.functional.cross_entropy(model(images[batch].float().div_(255)), labels[batch]).backward()
            steps.step()
        with torch.inference_mode():
            parts = validation.split(256)
            right = sum(int((model(images[at].float().div_(255)).argmax(1) == labels[at]).sum()) for at in parts)
    return right / len(validation)


def main() -> None:
    folder, epochs, points = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with mp.get_context("spawn").Pool(2, decoded, (folder,)) as pool:
        started = time.monotonic()
        jobs = [(folder, epochs, *point) for point in POINTS[:: len(POINTS) // points]]
        accuracies = pool.map(resident, jobs, chunksize=1)
        print(f"best {max(accuracies):.4f} fit {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
