"""The grid of `digits_grid.py` in Ray Tune by hand, its first CONFIGURATIONS: a trial is a configuration, in 5 folds.

usage: ray_tune_digits.py EPOCHS CONFIGURATIONS
"""

import sys
import tempfile
import time

import ray
from digits_loop import FOLDS, POINTS, train
from ray import tune

EPOCHS, CONFIGURATIONS = int(sys.argv[1]), int(sys.argv[2])


def trainable(config: dict[str, int]) -> None:
    accuracies = [train((EPOCHS, *POINTS[config["point"]], fold)) for fold in range(FOLDS)]
    tune.report({"val_accuracy": sum(accuracies) / FOLDS})


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    tuner = tune.Tuner(
        trainable,
        param_space={"point": tune.grid_search(list(range(CONFIGURATIONS)))},
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    started = time.monotonic()
    best = tuner.fit().get_best_result("val_accuracy", "max")
    print(f"best {best.metrics['val_accuracy']:.4f} fit {time.monotonic() - started:.1f}")


if __name__ == "__main__":
    main()
