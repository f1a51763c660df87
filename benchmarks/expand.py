"""Times what becomes of a scan file before the first trial: read and checked, expanded and keyed, planned in 5 folds.

python benchmarks/expand.py
"""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from nnscan.grid import configurations
from nnscan.plan import expand
from nnscan.scan import Scan, read

HEAD = """
name = "large"
validation.folds = 5
training.epochs = 10
data.name = "digits"
[[grid]]
family = "MLP"
model.name = "mlp"
"""

AXES = {
    "optimizer.name": ["sgd", "adam"],
    "model.width": list(range(16, 26)),
    "optimizer.learning_rate": [0.1 / 2**index for index in range(10)],
    "model.dropout": [index / 20 for index in range(5)],
    "training.seed": list(range(100)),
}
"""2 x 10 x 10 x 5 x 100 points, over three tables and two branches."""

ONE_TABLE = {
    "model.width": list(range(16, 26)),
    "model.depth": list(range(10)),
    "model.dropout": [index / 1000 for index in range(1000)],
}
"""10 x 10 x 1000 points, all in one table."""


ONE_AXIS = {"model.dropout": [index / 200_000 for index in range(100_000)]}


def scan_text(axes: dict[str, list[Any]], configurations: int) -> str:
    """Return a scan file with so many of the points of `axes`."""
    last = list(axes)[-1]
    rest = 1
    for name, values in axes.items():
        rest *= len(values) if name != last else 1
    axes = {**axes, last: axes[last][: max(1, configurations // rest)]}
    name = "" if "optimizer.name" in axes else 'optimizer.name = "adam"\n'
    return HEAD + name + "".join(f"{key} = {values}\n" for key, values in axes.items())


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return what `function` returns, and the seconds it takes."""
    start = time.perf_counter()
    value = function()
    return value, time.perf_counter() - start


def drain(scan: Scan) -> int:
    """Expand and key `scan`; return how many configurations it has."""
    counted = enumerate(configurations(scan), start=1)
    return deque(counted, maxlen=1)[0][0]


def main() -> None:
    """Print a row for each size."""
    table = Table("grid", "configurations", "read and check s", "expand and key s", "together s", "plan of 5 folds s")
    for label, axes in (
        ("five axes, three tables", AXES),
        ("three axes, one table", ONE_TABLE),
        ("one axis", ONE_AXIS),
    ):
        for size in (1_000, 10_000, 100_000):
            text = scan_text(axes, size)
            scan, reading = timed(lambda text=text: read(text))
            count, expanding = timed(lambda scan=scan: drain(scan))
            _, planning = timed(lambda scan=scan: expand(scan))
            times = (reading, expanding, reading + expanding, planning)
            table.add_row(label, f"{count:,}", *(f"{seconds:.2f}" for seconds in times))
    Console(width=120).print(table)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
