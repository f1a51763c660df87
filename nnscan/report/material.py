"""What a report is made of: the summary, the tables and the model folders of a scan, read once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nnscan.errors import Problem, ScanError, StoreError
from nnscan.plan import Plan, read_columns
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.leaderboard import FamilySummary
from nnscan.results.schema import Schemas, read_schemas
from nnscan.results.summary import PLAN_COLUMNS, Summary, summarize_folder
from nnscan.trial import Kind, Status

TRIALS_COLUMNS = (
    *("trial", "configuration", "kind", "status", "epochs", "seconds", "fused", "started", "ended", "host", "device"),
    *("nnscan_version", "torch_version", "python_version"),
)
"""Of trials/, as far as a report reads it itself."""


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """A retrained winner, as it lies in models/."""

    family: str
    path: Path
    card: Mapping[str, Any]
    """The content of model.json."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the outputs."""
        return tuple(self.card["classes"])

    @cached_property
    def predictions(self) -> pa.Table | None:
        """Of the test set; None where it was not tested."""
        return _parquet(self.path / "predictions.parquet")

    @cached_property
    def examples(self) -> pa.Table | None:
        """Pictures of the test set, with what the network says of them; None where the inputs are no pictures."""
        return _parquet(self.path / "examples.parquet")


@dataclass(frozen=True, kw_only=True)
class Material:
    """Everything that a scan folder holds for a report, as it was at one time."""

    folder: ScanFolder
    summary: Summary
    plan: pa.Table
    """`PLAN_COLUMNS`: a row a (trial, family)."""
    trials: pa.Table
    """`TRIALS_COLUMNS`: a row a trial that ended."""
    metrics: tuple[str, ...]
    """Of an epoch: columns of epochs/."""
    models: tuple[ModelFolder, ...]
    """In the order of the families."""

    @property
    def families(self) -> tuple[FamilySummary, ...]:
        """In the order of the scan file."""
        return self.summary.families

    @cached_property
    def completed(self) -> pa.Table:
        """The trials of the plan that completed, each once: `key`, `configuration`, `fold`, `replicate`."""
        rows = self.trials
        done = rows.filter(
            pc.and_(pc.equal(rows["kind"], Kind.TRIAL.value), pc.equal(rows["status"], Status.COMPLETED.value))
        )
        columns = ["key", "configuration", "fold", "replicate"]
        known = self.plan.select(columns).filter(pc.is_in(self.plan["key"], value_set=_whole(done["trial"])))
        return known.group_by(columns, use_threads=False).aggregate([])

    def trials_of(self, configuration: str) -> list[str]:
        """Return the keys of a configuration's completed trials, by replicate and fold."""
        rows = self.completed.filter(pc.equal(self.completed["configuration"], configuration))
        ordered = rows.sort_by([("replicate", "ascending"), ("fold", "ascending")])
        return list(ordered["key"].to_pylist())

    def epochs(self, metrics: Sequence[str], trials: Sequence[str] | None = None) -> pa.Table:
        """Return `trial`, `epoch` and these metrics of all trials that ended, or of those named."""
        return store.read_epochs(self.folder, trials, ["trial", "epoch", *metrics])

    def members(self, family: str) -> set[str]:
        """Return the keys of the configurations of a family."""
        rows = self.plan.filter(pc.equal(self.plan["family"], family))
        return set(pc.unique(rows["configuration"]).to_pylist())

    def settings(self, configuration: str) -> dict[str, Any]:
        """Return what a configuration asks for, every default written out."""
        table = Plan.read(self.folder).table
        row = pc.index(table["configuration"], configuration).as_py()
        return json.loads(table["settings"][row].as_py())  # type: ignore[no-any-return]


def read(folder: ScanFolder) -> Material:
    """Return what `folder` holds for a report; it may be read at any time, whoever writes.

    Raises
    ------
    ScanError
        Where nothing was launched in the folder, or no trial has ended yet.
    StoreError
        Where a file does not read; the text names it.
    """
    summary = summarize_folder(folder)
    trials = store.read_trials(folder, TRIALS_COLUMNS)
    if not len(trials):
        raise ScanError(str(folder.path), [Problem("SCAN", _nothing(folder))])
    return Material(
        folder=folder,
        summary=summary,
        plan=read_columns(folder, PLAN_COLUMNS),
        trials=trials,
        metrics=(read_schemas(folder) or Schemas.of({})).metrics,
        models=tuple(_models(folder, [family.name for family in summary.families])),
    )


def _nothing(folder: ScanFolder) -> str:
    return (
        "no trial has ended yet, so there is nothing to report. See how far it is: nnscan watch"
        f" {folder.path.name}. Start it, or take it up again: nnscan launch {folder.scan_file}"
    )


def _models(folder: ScanFolder, families: Sequence[str]) -> Iterator[ModelFolder]:
    for family in families:
        path = folder.models / family
        if (path / "model.json").is_file():
            yield ModelFolder(family=family, path=path, card=_json(path / "model.json"))


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        content["classes"], content["configuration"]["key"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    return content  # type: ignore[no-any-return]


def _parquet(path: Path) -> pa.Table | None:
    if not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(
        f"{path} does not read ({type(error).__name__}: {error})."
        f" Remove the folder {path.parent}, and retrain: nnscan retrain-best"
    )


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()
