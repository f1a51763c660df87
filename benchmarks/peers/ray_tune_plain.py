"""What a user of Ray Tune writes today: a torchvision data set, a DataLoader, a report an epoch.

The first TRIALS of the grid of `mnist_grid.py`. usage: ray_tune_plain.py DATA_ROOT EPOCHS TRIALS [--reuse]
"""

import sys
import tempfile
import time

import ray
from mnist_plain import POINTS, train
from ray import tune

ROOT, EPOCHS, TRIALS, REUSE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), "--reuse" in sys.argv


def trainable(config: dict[str, int]) -> None:
    for accuracy in train(ROOT, EPOCHS, *POINTS[config["point"]]):
        tune.report({"val_accuracy": accuracy})


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        trainable,
        param_space={"point": tune.grid_search(list(range(TRIALS)))},
        tune_config=tune.TuneConfig(reuse_actors=REUSE),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    started = time.monotonic()
    best = tuner.fit().get_best_result("val_accuracy", "max")
    print(f"best {best.metrics['val_accuracy']:.4f} fit {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
