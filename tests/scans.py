"""Scans to launch, and what came of them, for the tests of the road from scan file to store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from nnscan import toml
from nnscan.launch_options import LaunchOptions, Outcome
from nnscan.launching import launch
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.scan import Scan, read

TESTS = Path(__file__).parent
"""Working folder of these launches: users' functions (functions.py) are imported from it."""

DIGITS = """
name = "digits"
[data]
name = "digits"
[validation]
folds = 2
[training]
epochs = 2
batch_size = 64
[[grid]]
family = "Narrow"
model.name = "mlp"
model.width = [4, 8]
optimizer.name = "sgd"
[[grid]]
family = "Wide"
model.name = "mlp"
model.width = [8, 16]
optimizer.name = "sgd"
"""
"""8 trials that differ in width: MLPs of 4, 8 (in both families) and 16 units, two folds."""

OF_TIME = {"seconds", "started", "ended", "epoch_seconds", "examples_per_second"}
OF_PLACE = {"fused", "host", "pid", "device", "bundle", "writer", "launch", "attempt"}


def function_scan(name: str, rates: list[float], *, folds: int = 2, epochs: int = 2, **arguments: Any) -> Scan:
    """Return a scan of the function `name` in functions.py over `rates`."""
    given = "".join(f"arguments.{key} = {toml.value(value)}\n" for key, value in arguments.items())
    return read(
        f"""
        name = "{name}"
        [validation]
        {f"folds = {folds}" if folds > 1 else "holdout = 0.2"}
        [training]
        function = "functions:{name}"
        metrics = ["val_loss"]
        epochs = {epochs}
        {given}
        [[grid]]
        family = "Own"
        training.arguments.rate = {toml.value(rates)}
        """
    )


def run(scan: Scan, path: Path, **options: Any) -> Outcome:
    """Launch `scan` in this process, unless `options` say otherwise."""
    return launch(scan, ScanFolder(path / "scans" / scan.name), LaunchOptions(**{"cluster": "inline", **options}))


def rows_of(outcome: Outcome, *columns: str) -> list[tuple[Any, ...]]:
    """Return these columns of the table of trials, sorted."""
    table = store.read_trials(outcome.folder, columns)
    return sorted(zip(*(table[name].to_pylist() for name in columns), strict=True), key=repr)


def differences(one: ScanFolder, other: ScanFolder) -> list[str]:
    """Return in what the tables of two scan folders differ, bit by bit, beyond time, place and attempt: one line each.

    Python writes the shortest text that gives a float back, so equal text is equal bits.
    """
    told = []
    for table, (rows, others) in enumerate(zip(_tables(one), _tables(other), strict=True)):
        told += [f"table {table}: {key} in one alone" for key in sorted(rows.keys() ^ others.keys())]
        for key in rows.keys() & others.keys():
            pairs = ((name, repr(rows[key][name]), repr(others[key].get(name))) for name in rows[key])
            told += [f"{key} {name}: {left} {right}" for name, left, right in pairs if left != right]
    return told


def _tables(folder: ScanFolder) -> tuple[dict[str, dict[str, Any]], ...]:
    """Return the rows of trials/ and of epochs/ by their keys; two rows of one key are an error.

    Of the files in tracebacks the names alone: jobs of Slurm import a copy of the code.
    """
    found = []
    for table, keys in ((store.read_trials(folder), ("trial",)), (store.read_epochs(folder), ("trial", "epoch"))):
        kept = [name for name in table.column_names if name not in OF_TIME | OF_PLACE]
        rows = {" ".join(str(row[key]) for key in keys): row for row in table.select(kept).to_pylist()}
        for row in rows.values():
            row.update({"traceback": re.sub(r'File ".*/', 'File "', row["traceback"])} if "traceback" in row else {})
        assert len(rows) == len(table)
        found.append(rows)
    return tuple(found)
