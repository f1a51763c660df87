"""What a trial costs that does nothing: dispatch, journal, tables, on local Ray with default settings.

A launch of 1 trial is taken from a launch of N, which leaves the start of Ray out; Ray Tune by hand is timed in `fit`.

usage: python benchmarks/noop.py [--trials N] [--repeat N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from whole_process import ROOT, processor, python, run

SCAN = """
name = "noop"
[training]
function = "nothing:train"
metrics = ["number"]
epochs = 1
[[grid]]
family = "noop"
training.arguments.number = [{numbers}]
"""
FUNCTION = """
def train(number):
    yield {"number": float(number)}
"""
PEER = ROOT / "benchmarks" / "peers" / "ray_tune_noop.py"
PEER_TRIALS = {"Ray Tune": 20, "Ray Tune, reuse": 200}


def nnscan(trials: int) -> float:
    """Return the seconds of a launch of so many trials, as a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nothing.py").write_text(FUNCTION)
        Path(folder, "noop.toml").write_text(SCAN.format(numbers=", ".join(map(str, range(trials)))))
        return run(python("-m", "nnscan", "launch", "noop.toml"), Path(folder)).seconds


def ray_tune(trials: int, *options: str) -> float:
    """Return the seconds of `fit` in Ray Tune by hand."""
    return float(run(python(str(PEER), str(trials), *options), ROOT).output.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    one = [nnscan(1) for _ in range(asked.repeat)]
    many = [nnscan(asked.trials) for _ in range(asked.repeat)]
    start = statistics.median(one)
    costs = {"nnscan": (statistics.median(many) - start) / (asked.trials - 1)}
    costs["Ray Tune, reuse"] = ray_tune(PEER_TRIALS["Ray Tune, reuse"], "--reuse") / PEER_TRIALS["Ray Tune, reuse"]
    costs["Ray Tune"] = ray_tune(PEER_TRIALS["Ray Tune"]) / PEER_TRIALS["Ray Tune"]
    print(f"{asked.trials} trials that do nothing, local Ray, {processor()}; start and end of a launch {start:.1f} s\n")
    print("| way | a trial |\n|---|---|")
    for way, seconds in costs.items():
        print(f"| {way} | {1000 * seconds:.1f} ms |")


if __name__ == "__main__":
    main()
