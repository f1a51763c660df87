"""Time `nnscan summarize` as a whole process, with its peak memory, on compacted scans of many trials.

    python benchmarks/summarize.py            1,000, 100,000 and 1,000,000 trials
    python benchmarks/summarize.py 20000      so many
    python benchmarks/summarize.py --against-duckdb [N]    beside the same question in DuckDB by hand, of one file

The scans are made up: eight axes, five folds, two families, keys of 32 hex digits, every column that a real scan has.
Goals: 100,000 trials in 1 s; 1,000,000 trials (200,000 configurations) in 3 s and 2 GB; at most twice DuckDB's time.

DuckDB reads the file of trials/ alone, where every hyperparameter stands in a column; nnscan the plan too, so it knows
what is missing. By another metric than the scan's both go through 50 epochs of every trial, 50,000,000 rows.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from whole_process import ROOT, processor

from nnscan.results.folder import ScanFolder
from nnscan.results.part import write_part
from nnscan.results.schema import Schemas, hyperparameters, leaves, write_schemas

FOLDS = 5
REPEATS = 3
EPOCHS = 50
ROUNDS = 5
GOALS = {100_000: (1.0, 2.0), 1_000_000: (3.0, 2.0)}
"""Seconds and GB by trials."""

AXES: dict[str, list[Any]] = {
    "data.augmentation.crop_padding": [0, 1, 2, 4],
    "model.activation": ["relu", "tanh", "gelu"],
    "model.depth": [1, 2, 3, 4, 5],
    "model.dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
    "model.width": [16, 32, 64, 128, 256, 512],
    "optimizer.learning_rate": [round(10 ** (-k / 4), 6) for k in range(2, 18)],
    "optimizer.weight_decay": [0.0, *(10.0**-k for k in range(1, 7))],
    "training.batch_size": [32, 64, 128, 256],
}
FIXED: dict[str, Any] = {
    "data": {"name": "digits", "normalization": "standard", "test": 0.2, "augmentation": {"cutout": 0}},
    "model": {"name": "mlp"},
    "optimizer": {"name": "adam", "betas": [0.9, 0.999], "epsilon": 1e-8, "schedule": {"name": "constant"}},
    "task": {"name": "classification", "loss": "cross_entropy", "label_smoothing": 0.0},
    "training": {"epochs": 10, "precision": "float32", "seed": 0, "gradient_clip": 0.0, "keep": "none"},
    "validation": {"folds": FOLDS, "stratified": True},
}
TOP = 1_000_000


@dataclass(frozen=True)
class Measured:
    """Best of some whole processes."""

    seconds: float
    cpu_seconds: float
    gigabytes: float


def main() -> None:
    """Print a line for each size, or the table beside DuckDB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trials", nargs="*", type=int)
    parser.add_argument("--against-duckdb", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        if asked.against_duckdb:
            beside_duckdb(ScanFolder(Path(temporary)), (asked.trials or [1_000_000])[0])
        else:
            alone(Path(temporary), asked.trials or [1_000, 100_000, 1_000_000])


def alone(temporary: Path, counts: list[int]) -> None:
    """Print a line for each size."""
    print(f"{'trials':>10} {'configurations':>15} {'seconds':>8} {'CPU s':>6} {'GB':>5}  goal")
    for count in counts:
        folder = ScanFolder(temporary / str(count))
        apart(write_scan, folder, count)
        found = min((measure(ours(folder)) for _ in range(REPEATS)), key=lambda measured: measured.seconds)
        goal = "{} s, {} GB".format(*GOALS[count]) if count in GOALS else ""
        print(
            f"{count:>10,} {count // FOLDS:>15,} {found.seconds:>8.2f} {found.cpu_seconds:>6.2f}"
            f" {found.gigabytes:>5.2f}  {goal}"
        )


def beside_duckdb(folder: ScanFolder, count: int) -> None:
    """Print medians of both, run in turns: by the scan's own metric, and by another."""
    apart(write_scan, folder, count)
    apart(write_epochs, folder, EPOCHS)
    trials, epochs = (str(table / "compacted.0.parquet") for table in (folder.trials, folder.epochs))
    by_hand = [sys.executable, str(Path(__file__).parent / "peers" / "duckdb_summary.py"), trials, ",".join(AXES)]
    questions = {
        "by the scan's metric": (ours(folder), by_hand),
        f"by another, of {EPOCHS} epochs each": (
            [*ours(folder), "--metric", "val_loss"],
            [*by_hand, "--by-epochs", epochs, "val_loss"],
        ),
    }
    print(f"{count:,} trials, whole processes, medians of {ROUNDS} rounds in turns; {processor()}\n")
    print("| leaderboards and effects | nnscan | DuckDB by hand | ratio, least to largest |\n|---|---|---|---|")
    for question, commands in questions.items():
        rounds = [tuple(measure(command) for command in commands) for _ in range(ROUNDS)]
        ratios = sorted(mine.seconds / its.seconds for mine, its in rounds)
        told = " | ".join(_medians(column) for column in zip(*rounds, strict=True))
        print(f"| {question} | {told} | {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f} |")


def apart(write: Callable[..., None], *arguments: Any) -> None:
    """Write in a process of its own: what is started later would have this one's memory counted as its own."""
    process = multiprocessing.Process(target=write, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{write.__name__} ended with {process.exitcode}")


def _medians(runs: Sequence[Measured]) -> str:
    names = ("seconds", "cpu_seconds", "gigabytes")
    seconds, cpu, gigabytes = (statistics.median(getattr(run, name) for run in runs) for name in names)
    return f"{seconds:.2f} s, {cpu:.2f} CPU s, {gigabytes:.2f} GB"


def ours(folder: ScanFolder) -> list[str]:
    """Return the command."""
    return [sys.executable, "-m", "nnscan", "summarize", str(folder.path)]


def measure(command: Sequence[str]) -> Measured:
    """Run the command once; wall and processor time, peak resident memory."""
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return Measured(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6)


def write_scan(folder: ScanFolder, count: int) -> None:
    """Make a scan of `count` trials, all completed and compacted."""
    random = np.random.default_rng(0)
    size = count // FOLDS
    points = random.permutation(np.prod([len(values) for values in AXES.values()]))[:size]
    chosen = dict(_chosen(points))
    folder.launches.mkdir(parents=True)
    folder.scan_file.write_text('name = "synthetic"\n[selection]\nmetric = "val_accuracy"\n')
    keys, configurations = hex_keys(random, count), hex_keys(random, size)
    families = np.where(np.arange(size) % 2 == 0, "narrow", "wide")
    write_plan(folder, keys, configurations, families, chosen)
    write_trials(folder, random, keys, configurations, families, chosen)


def _chosen(points: npt.NDArray[np.int64]) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """The index into its axis of each configuration, axis by axis: the digits of a number of mixed base."""
    for path, values in AXES.items():
        yield path, points % len(values)
        points = points // len(values)


def hex_keys(random: np.random.Generator, count: int) -> pa.StringArray:
    """Return `count` random keys of 32 hex digits."""
    offsets = np.arange(0, 32 * count + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets), pa.py_buffer(random.bytes(16 * count).hex().encode())
    )


def write_plan(
    folder: ScanFolder,
    keys: pa.StringArray,
    configurations: pa.StringArray,
    families: npt.NDArray[np.str_],
    chosen: dict[str, npt.NDArray[np.int64]],
) -> None:
    """Write plan.parquet."""
    size = len(configurations)
    each = pa.array(np.repeat(np.arange(size, dtype=np.int32), FOLDS))
    texts = [json.dumps({**FIXED, "chosen": [int(codes[index]) for codes in chosen.values()]}) for index in range(size)]
    columns = {
        "key": keys,
        "configuration": configurations.take(each),
        "family": pa.array(families).take(each),
        "fold": pa.array(np.tile(np.arange(FOLDS, dtype=np.int32), size)),
        "replicate": pa.array(np.zeros(size * FOLDS, dtype=np.int32)),
        "settings": pa.DictionaryArray.from_arrays(each, pa.array(texts)),
    }
    told = json.dumps({"axes": {name: list(AXES.items()) for name in ("narrow", "wide")}, "schemas": ""})
    table = pa.table(columns).replace_schema_metadata({"nnscan": told})
    pq.write_table(table, folder.plan, compression="zstd", dictionary_pagesize_limit=2**28)


def write_trials(
    folder: ScanFolder,
    random: np.random.Generator,
    keys: pa.StringArray,
    configurations: pa.StringArray,
    families: npt.NDArray[np.str_],
    chosen: dict[str, npt.NDArray[np.int64]],
) -> None:
    """Write trials/ as compaction leaves it, the rows in the order in which workers finished."""
    columns = hyperparameters([FIXED]) | {path: pa.array(values).type for path, values in AXES.items()}
    schemas = Schemas.of(columns)
    write_schemas(folder, schemas)
    each = np.repeat(np.arange(len(configurations)), FOLDS)
    order = random.permutation(len(keys))
    varying: dict[str, Any] = {
        "trial": keys.take(pa.array(order)),
        "configuration": configurations.take(pa.array(each[order])),
        "family": pa.array(families[each[order]]),
        "fold": pa.array((order % FOLDS).astype(np.int32)),
        "best_epoch": pa.array(random.integers(1, 11, len(keys)).astype(np.int32)),
        "parameters": pa.array(10 + chosen["model.width"][each[order]] * 1000),
        "seconds": pa.array(random.exponential(20.0, len(keys))),
        **{path: pa.array(values).take(pa.array(chosen[path][each[order]])) for path, values in AXES.items()},
    }
    quality = 0.9 - 0.01 * sum(codes for codes in chosen.values())[each[order]]
    varying["score"] = varying["val_accuracy"] = pa.array(quality + random.normal(0, 0.01, len(keys)))
    table = pa.table([_column(field, varying, len(keys)) for field in schemas.trials], schema=schemas.trials)
    folder.trials.mkdir()
    write_part(folder.trials / "compacted.0.parquet", [table], schemas.trials, replaces=[])


CONSTANT: dict[str, Any] = {
    **{"kind": "trial", "status": "completed", "failure": "", "error": "", "traceback": "", "metric": "val_accuracy"},
    **{"attempt": 1, "epochs": 10, "replicate": 0, "writer": "0123456789abcdef", "bundle": "b-0000", "launch": "l"},
    **{
        "host": "node-1",
        "device": "cpu",
        "threads": 1,
        "processes": 1,
        "fused": 1,
        "numerics": 1,
        **dict(leaves(FIXED)),
    },
}


def write_epochs(folder: ScanFolder, epochs: int) -> None:
    """Write epochs/ as compaction leaves it: `epochs` rows for each trial, those of one beside each other."""
    schema = Schemas.of({}).epochs
    trials = pq.read_table(folder.trials, columns=["trial", "writer"])
    groups = (_epochs_of(trials.slice(first, 20_000), epochs, schema) for first in range(0, len(trials), 20_000))
    folder.epochs.mkdir()
    write_part(folder.epochs / "compacted.0.parquet", groups, schema, replaces=[])


def _epochs_of(trials: pa.Table, epochs: int, schema: pa.Schema) -> pa.Table:
    random, count = np.random.default_rng(len(trials)), len(trials) * epochs
    varying = {
        "trial": trials["trial"].take(pa.array(np.repeat(np.arange(len(trials)), epochs))),
        "epoch": pa.array(np.tile(np.arange(1, epochs + 1), len(trials))),
        **{name: pa.array(random.random(count)) for name in ("train_loss", "val_loss", "val_accuracy")},
    }
    return pa.table([_column(field, varying, count) for field in schema], schema=schema)


def _column(field: pa.Field, varying: dict[str, Any], count: int) -> pa.Array:
    if field.name in varying:
        return varying[field.name].cast(field.type)
    return pa.repeat(pa.scalar(CONSTANT.get(field.name), field.type), count)


if __name__ == "__main__":
    main()
