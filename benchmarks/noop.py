"""What a trial costs that does nothing: dispatch, journal and tables, by two forked workers and by two of local Ray.

A launch of 1 trial is taken from a launch of N, which leaves the start out; Ray Tune by hand is timed in `fit`, with
fewer trials.

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
CLUSTERS = {"nnscan, inline": "inline", "nnscan, local Ray": "local"}


def nnscan(trials: int, cluster: str) -> float:
    """Return the seconds of a launch of so many trials, as a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "nothing.py").write_text(FUNCTION)
        Path(folder, "noop.toml").write_text(SCAN.format(numbers=", ".join(map(str, range(trials)))))
        options = ("--cluster", cluster, "--workers", "2")
        return run(python("-m", "nnscan", "launch", "noop.toml", *options), Path(folder)).seconds


def ray_tune(trials: int, *options: str) -> float:
    """Return the seconds of `fit` in Ray Tune by hand."""
    return float(run(python(str(PEER), str(trials), *options), ROOT).output.split()[-1])


def launches(trials: int, repeat: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return, by launcher, the seconds of a launch of 1 trial, and those of a further trial: medians, in turns."""
    one: dict[str, list[float]] = {way: [] for way in CLUSTERS}
    many: dict[str, list[float]] = {way: [] for way in CLUSTERS}
    for _ in range(repeat):
        for way, cluster in CLUSTERS.items():
            one[way].append(nnscan(1, cluster))
            many[way].append(nnscan(trials, cluster))
    starts = {way: statistics.median(seconds) for way, seconds in one.items()}
    return starts, {way: (statistics.median(many[way]) - starts[way]) / (trials - 1) for way in CLUSTERS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    starts, costs = launches(asked.trials, asked.repeat)
    costs["Ray Tune, reuse"] = ray_tune(PEER_TRIALS["Ray Tune, reuse"], "--reuse") / PEER_TRIALS["Ray Tune, reuse"]
    costs["Ray Tune"] = ray_tune(PEER_TRIALS["Ray Tune"]) / PEER_TRIALS["Ray Tune"]
    print(f"{asked.trials} trials that do nothing, two workers, {processor()}\n")
    print("| way | start and end | a trial | 10,000 trials |\n|---|---|---|---|")
    for way, seconds in costs.items():
        start = f"{starts[way]:.1f} s" if way in starts else ""
        print(f"| {way} | {start} | {1000 * seconds:.2f} ms | {starts.get(way, 0.0) + 10_000 * seconds:.0f} s |")


if __name__ == "__main__":
    main()
