"""Memory of the launching process while trials finish: it is to stay flat.

A launch of N trials of a few milliseconds each, by two workers. The resident memory of this process, which launches,
is read whenever progress is shown.

usage: python benchmarks/launch_memory.py [--trials N] [--cluster local]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import psutil
from noop import FUNCTION, SCAN

from nnscan.launch_options import LaunchOptions
from nnscan.launching import launch
from nnscan.results.folder import ScanFolder
from nnscan.results.progress import Progress
from nnscan.running import Decoding
from nnscan.scan import load

PAUSE = "    import time; time.sleep(0.005)\n"
MARKS = (0.05, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4000)
    parser.add_argument("--cluster", default="inline", choices=("inline", "local"))
    asked = parser.parse_args()
    trials, options = asked.trials, LaunchOptions(cluster=asked.cluster, workers=2)
    found: list[tuple[int, float]] = []

    def show(event: Progress | Decoding) -> None:
        if isinstance(event, Progress):
            found.append((event.ended, psutil.Process().memory_info().rss / 2**20))

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("nothing.py").write_text(FUNCTION.replace("):\n", "):\n" + PAUSE))
        Path("noop.toml").write_text(SCAN.format(numbers=", ".join(map(str, range(trials)))))
        launch(load("noop.toml"), ScanFolder(Path("scans/noop")), options, show)
        os.chdir("/")
    print("| trials finished | memory of the launching process |\n|---|---|")
    for mark in MARKS:
        ended, memory = min(found, key=lambda one: abs(one[0] - mark * trials))
        print(f"| {ended} | {memory:.1f} MiB |")


if __name__ == "__main__":
    main()
