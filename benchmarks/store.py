"""How fast the tables are read: a made-up scan of N trials, compacted, each reading in a process of its own.

    python benchmarks/store.py 100000 1000000

Prints seconds in `read_trials` (imports excluded), and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from nnscan.results.compaction import compact
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer
from nnscan.results.metric import METRICS
from nnscan.results.part import write_part
from nnscan.results.schema import Schemas, hyperparameters, write_schemas
from nnscan.results.store import close_journals

LEADERBOARD = ["trial", "status", "failure", "score", "seconds", "parameters", "best_epoch", "attempt"]

FOLDS = 5
TRIALS_PER_BUNDLE = 100_000

SETTINGS = {
    "data": {"name": "digits", "normalization": "standard", "test": 0.2},
    "model": {"name": "mlp", "width": 64, "depth": 2, "dropout": 0.0, "activation": "relu"},
    "optimizer": {"name": "adam", "learning_rate": 0.001, "betas": [0.9, 0.999], "schedule": {"name": "constant"}},
    "task": {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0},
    "training": {"epochs": 10, "batch_size": 64, "precision": "float32", "seed": 0},
    "validation": {"folds": FOLDS, "stratified": True},
}

READING = """
import sys, time
from pathlib import Path
from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials
begin = time.perf_counter()
table = read_trials(ScanFolder(Path(sys.argv[1])), sys.argv[2].split(",") if sys.argv[2] else None)
seconds = time.perf_counter() - begin
peak = [line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
print(seconds, len(table), int(peak[0]) / 2**10)
"""


def make(folder: ScanFolder, count: int) -> None:
    """Write a scan of `count` trials and compact it."""
    schemas = Schemas.of(hyperparameters([SETTINGS]))
    folder.path.mkdir(parents=True)
    write_schemas(folder, schemas)
    for bundle, first in enumerate(range(0, count, TRIALS_PER_BUNDLE)):
        rows = np.arange(first, min(first + TRIALS_PER_BUNDLE, count))
        write_part(
            folder.trials / f"l-{bundle}.{bundle:016x}.parquet", [_trials(rows, bundle, schemas)], schemas.trials
        )
    compact(folder)


def _trials(rows: np.ndarray, bundle: int, schemas: Schemas) -> pa.Table:
    generator = np.random.default_rng(bundle)
    columns = {
        "trial": _keys(rows, 1),
        "configuration": _keys(rows // FOLDS, 2),
        "family": np.where(rows % 2, "MLP", "CNN"),
        "fold": rows % FOLDS,
        "status": np.where(rows % 97, "completed", "failed"),
        "failure": np.where(rows % 97, "", "config"),
        "attempt": np.ones(len(rows)),
        "score": generator.random(len(rows)),
        "best_epoch": generator.integers(0, 10, len(rows)),
        "parameters": 1000 + rows // FOLDS,
        "seconds": generator.random(len(rows)),
        "started": 1_767_225_600_000_000 + rows * 1000,
        "ended": 1_767_225_601_000_000 + rows * 1000,
        "writer": np.full(len(rows), f"{bundle:016x}"),
        "bundle": np.full(len(rows), f"l-{bundle}"),
        "host": np.where(rows % 3, "node1", "node2"),
        "optimizer.learning_rate": 10.0 ** -(rows % 4),
        "model.width": 2 ** (rows % 6),
        **{name: generator.random(len(rows)) for name in ("train_loss", "train_accuracy", "val_loss", "val_accuracy")},
    }
    arrays = [_array(columns.get(field.name), field.type, len(rows)) for field in schemas.trials]
    return pa.table(arrays, schema=schemas.trials)


def _array(values: np.ndarray | None, type_: pa.DataType, count: int) -> pa.Array:
    return pa.nulls(count, type_) if values is None else pa.array(values).cast(type_)


def _keys(numbers: np.ndarray, salt: int) -> np.ndarray:
    """Return 32 hex digits a number, as little to compress as real keys."""
    return np.array([hashlib.blake2b(b"%d %d" % (number, salt), digest_size=16).hexdigest() for number in numbers])


def read(folder: ScanFolder, columns: list[str]) -> tuple[float, int, float]:
    """Return seconds, rows and peak megabytes of a process that reads these columns; all where there are none."""
    command = [sys.executable, "-c", READING, str(folder.path), ",".join(columns)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), int(said[1]), float(said[2])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("counts", nargs="*", type=int, default=[100_000, 1_000_000], help="trials of the scans")
    for count in parser.parse_args().counts:
        with tempfile.TemporaryDirectory() as path:
            report(ScanFolder(Path(path) / "scan"), count)


def report(folder: ScanFolder, count: int) -> None:
    """Print the table of one scan."""
    begin = time.perf_counter()
    make(folder, count)
    parts = list(folder.trials.iterdir())
    size = sum(part.stat().st_size for part in parts) / 2**20
    print(f"{count} trials: made in {time.perf_counter() - begin:.1f} s, {size:.0f} MiB in {len(parts)} parts")
    for name, columns in (("leaderboard columns", LEADERBOARD), ("one column", ["score"]), ("all columns", [])):
        print_reading(folder, name, columns)
    write_more(folder)
    print_reading(folder, "while 50 are written", LEADERBOARD)
    begin = time.perf_counter()
    close_journals(folder, lambda _: True, Cause.ENDED)
    sealed = time.perf_counter()
    compact(folder)
    print(f"  sealing 50 journals {sealed - begin:.3f} s, compaction {time.perf_counter() - sealed:.3f} s")


def write_more(folder: ScanFolder) -> None:
    """Leave 50 open journals of 20 trials and 10 epochs each."""
    for bundle in range(50):
        writer = Writer(folder, f"m-{bundle}", {"host": "node1"})
        for number in range(20):
            start = {"trial": f"{bundle:016x}{number:016x}", "attempt": 1, "settings": SETTINGS}
            writer.start(start)
            for epoch in range(10):
                writer.epoch({"trial": start["trial"], "epoch": epoch, "metrics": dict.fromkeys(METRICS[:4], 0.5)})
            writer.end({"trial": start["trial"], "status": "completed", "score": 0.5, "metrics": {"val_loss": 0.5}})


def print_reading(folder: ScanFolder, name: str, columns: list[str]) -> None:
    seconds, _, megabytes = min(read(folder, columns) for _ in range(3))
    print(f"  {name:<20} {seconds:6.3f} s {megabytes:8.0f} MiB")


if __name__ == "__main__":
    main()
