"""How well workers are kept busy: trials that sleep, on more workers than there are cores, by forked workers.

The ideal is trials / workers * seconds. Time is from the first trial's start to the last one's end, as the table of
trials has them; the start of the launch and its end stand beside it.

usage: python benchmarks/sleep.py [--trials N] [--workers N] [--seconds S]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import pyarrow.compute as pc
from noop import SCAN
from whole_process import processor, python, run

from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials

FUNCTION = """
import time


def train(number):
    time.sleep({seconds})
    yield {{"number": float(number)}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=1.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "nothing.py").write_text(FUNCTION.format(seconds=asked.seconds))
        (folder / "noop.toml").write_text(SCAN.format(numbers=", ".join(map(str, range(asked.trials)))))
        began = time.time()
        options = ("--cluster", "inline", "--workers", str(asked.workers))
        whole = run(python("-m", "nnscan", "launch", "noop.toml", *options), folder)
        table = read_trials(ScanFolder(folder / "scans" / "noop"), ["started", "ended"])
    first, last = pc.min(table["started"]).as_py().timestamp(), pc.max(table["ended"]).as_py().timestamp()
    ideal = asked.trials / asked.workers * asked.seconds
    print(f"{len(table)} trials of {asked.seconds:g} s on {asked.workers} workers, {processor()}\n")
    print("| ideal | from the first trial's start | start | end | whole process |\n|---|---|---|---|---|")
    ends = (ideal, last - first, first - began, began + whole.seconds - last, whole.seconds)
    print("| " + " | ".join(f"{seconds:.1f} s" for seconds in ends) + " |")


if __name__ == "__main__":
    main()
