"""The grid of `folder_grid.py` in Ray Tune with ImageFolder and a DataLoader.

usage: ray_tune_folder.py FOLDER EPOCHS POINTS
"""

import sys
import tempfile
import time

import ray
from folder_grid import POINTS, plain
from ray import tune

FOLDER, EPOCHS, COUNT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def trainable(config: dict[str, int]) -> None:
    tune.report({"val_accuracy": plain(FOLDER, EPOCHS, *POINTS[config["point"]])})


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        trainable,
        param_space={"point": tune.grid_search(list(range(0, len(POINTS), len(POINTS) // COUNT)))},
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    started = time.monotonic()
    best = tuner.fit().get_best_result("val_accuracy", "max")
    print(f"best {best.metrics['val_accuracy']:.4f} fit {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
