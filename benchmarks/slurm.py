"""What Slurm adds to trials: 1,000 trials of a second on 16 places, and 10,000 jobs submitted past MaxArraySize.

The ideal time is that of the trials alone, from the start of the first to the end of the last: 1,000 seconds / 16.

usage: python benchmarks/slurm.py [--trials N] [--workers N] [--jobs N] [--folder FOLDER]

FOLDER must be one that the nodes see. Needs a Slurm with so many places; the jobs of the second part are cancelled.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
from whole_process import processor, python, run

from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.launcher import cancel_jobs
from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials

SCAN = """
name = "{name}"
[training]
function = "sleeping:train"
metrics = ["number"]
epochs = 1
[[grid]]
family = "sleeping"
training.arguments.number = [{numbers}]
"""
FUNCTION = """
import time


def train(number):
    time.sleep(1)
    yield {"number": float(number)}
"""


def launch(home: Path, name: str, trials: int, *options: str) -> float:
    """Return the seconds of a launch of so many trials of one second, as a whole process."""
    (home / "sleeping.py").write_text(FUNCTION)
    (home / f"{name}.toml").write_text(SCAN.format(name=name, numbers=", ".join(map(str, range(trials)))))
    return run(python("-m", "nnscan", "launch", f"{name}.toml", "--cluster", "slurm", *options), home).seconds


def worked(folder: ScanFolder) -> tuple[float, float, int]:
    """Return from when to when trials ran, in unix seconds, and how many completed."""
    rows = read_trials(folder, ["started", "ended", "status"])
    times = [[value.timestamp() for value in rows[name].to_pylist()] for name in ("started", "ended")]
    return min(times[0]), max(times[1]), pc.sum(pc.equal(rows["status"], "completed")).as_py()


def seconds_of_trials(home: Path, trials: int, workers: int) -> list[str]:
    """Run the trials and return the lines of the table."""
    began = time.time()
    launch(home, "sleep", trials, "--workers", str(workers), "--wait")
    first, last, completed = worked(ScanFolder(home / "scans" / "sleep"))
    ideal = trials / workers
    what = f"{completed} trials of 1 s, {workers} at once: from the first start to the last end"
    return [
        f"| {what} | {last - first:.1f} s |",
        f"| the same, ideal | {ideal:.1f} s |",
        f"| ratio | {(last - first) / ideal:.2f} |",
        f"| from `nnscan launch` to the first start of a trial | {first - began:.1f} s |",
    ]


def submitted(home: Path, jobs: int) -> list[str]:
    """Submit so many jobs of one trial each, cancel them, and return the lines of the table."""
    (home / "single.toml").write_text("trials_per_bundle = 1\nbundles_at_once = 1\n")
    seconds = launch(home, "many", jobs, "--profile", "single.toml")
    folder = ScanFolder(home / "scans" / "many")
    (found,) = slurm_jobs.read_all(folder).values()
    cancel_jobs(found.numbers)
    tasks = sum(len(array.bundles) for array in found.arrays)
    return [f"| {tasks} jobs in {len(found.arrays)} arrays submitted | {seconds:.1f} s |"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder, ignore_cleanup_errors=True) as folder:
        lines = [*seconds_of_trials(Path(folder), asked.trials, asked.workers), *submitted(Path(folder), asked.jobs)]
    print(f"Slurm, {processor()}\n")
    print("\n".join(["| what | seconds |", "|---|---|", *lines]))


if __name__ == "__main__":
    main()
