"""How soon the commands that only look are there: whole processes, a bare Python beside them.

    python benchmarks/start.py [--repeat N]

Goal: `nnscan --help` in 0.3 s. `status` and `summarize` look at a scan of two trials. Prints medians of N runs in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table
from whole_process import processor, python, run

SCAN = """
name = "two"
[data]
name = "digits"
[validation]
holdout = 0.2
[training]
epochs = 1
[[grid]]
family = "MLP"
model.name = "mlp"
optimizer.name = "sgd"
optimizer.learning_rate = [0.1, 0.01]
"""

COMMANDS = {
    "python -c pass": ("-c", "pass"),
    "import nnscan": ("-c", "import nnscan"),
    "nnscan --help": ("-m", "nnscan", "--help"),
    "nnscan launch --help": ("-m", "nnscan", "launch", "--help"),
    "nnscan status": ("-m", "nnscan", "status"),
    "nnscan summarize": ("-m", "nnscan", "summarize"),
}


def main(repeat: int) -> None:
    """Time each command `repeat` times, in turn, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "two.toml").write_text(SCAN)
        run(python("-m", "nnscan", "launch", "two.toml", "--cluster", "inline"), place)
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(repeat):
            for name, arguments in COMMANDS.items():
                seconds[name].append(run(python(*arguments), place).seconds)
    table = Table("command", "median s", "least s", "most s", title=f"Start of a process, {repeat} runs; {processor()}")
    for name, values in seconds.items():
        table.add_row(name, *(f"{value:.2f}" for value in (statistics.median(values), min(values), max(values))))
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=10)
    main(parser.parse_args().repeat)
