"""What a user of Ray Tune writes today: a torchvision data set, a DataLoader, a report an epoch.

The grid of `mnist_grid.py`: the MNIST MLP 784-64-64-10, 4 learning rates x 3 seeds, batch 64, Adam, 48k/12k split.
usage: ray_tune_plain.py DATA_ROOT EPOCHS [--reuse]
"""

import sys
import tempfile
import time

import ray
import torch
import torchvision
from ray import tune
from torch import nn
from torch.utils.data import DataLoader, random_split
from torchvision import transforms

ROOT, EPOCHS, REUSE = sys.argv[1], int(sys.argv[2]), "--reuse" in sys.argv


def train(config: dict[str, float]) -> None:
    torch.manual_seed(int(config["seed"]))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    data = torchvision.datasets.MNIST(ROOT, train=True, transform=transform)
    training, validation = random_split(data, [48000, 12000], generator=torch.Generator().manual_seed(0))
    training_batches, validation_batches = DataLoader(training, 64, shuffle=True), DataLoader(validation, 64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), config["learning_rate"])
    for _ in range(EPOCHS):
        model.train()
        for x, y in training_batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(x).argmax(1) == y).sum().item() for x, y in validation_batches)
        tune.report({"val_accuracy": right / 12000})


def main() -> None:
    started = time.monotonic()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        train,
        param_space={
            "learning_rate": tune.grid_search([1e-2, 3e-3, 1e-3, 1e-4]),
            "seed": tune.grid_search([0, 1, 2]),
        },
        tune_config=tune.TuneConfig(reuse_actors=REUSE),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    best = tuner.fit().get_best_result("val_accuracy", "max")
    print(f"best {best.metrics['val_accuracy']:.4f} seconds {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
