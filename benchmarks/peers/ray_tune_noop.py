"""Ray Tune by hand with trials that do nothing: what its dispatch costs.

usage: ray_tune_noop.py TRIALS [--reuse]
"""

import sys
import tempfile
import time

import ray
from ray import tune


def train(config: dict[str, int]) -> None:
    tune.report({"value": config["number"]})


def main() -> None:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    started = time.monotonic()
    tuner = tune.Tuner(
        train,
        param_space={"number": tune.grid_search(list(range(int(sys.argv[1]))))},
        tune_config=tune.TuneConfig(reuse_actors="--reuse" in sys.argv),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), verbose=0),
    )
    tuner.fit()
    print(f"seconds {time.monotonic() - started:.2f}")


if __name__ == "__main__":
    main()
