"""A summary for programs: JSON with all of it, CSV and Parquet with the leaderboards."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from nnscan.results.leaderboard import Leader
    from nnscan.results.summary import Summary

COLUMNS = (
    *("scan", "metric", "family", "rank", "configuration", "mean", "std", "n", "best_epoch", "seconds", "parameters"),
    *("winner", "tied", "cost"),
)
"""Of CSV and Parquet; a column an axis follows, under its dotted path."""


def to_json(summary: Summary) -> str:
    """Return the whole summary as JSON; what is not a number (the spread of one trial) is null."""
    return json.dumps(_plain(asdict(summary)), indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_csv(summary: Summary) -> str:
    """Return the leaderboards as CSV; a list is JSON, what is unknown or does not apply is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=[*COLUMNS, *_axes(summary)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in _rows(summary))
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return json.dumps(value) if isinstance(value, list | bool) else value


def to_parquet(summary: Summary) -> bytes:
    """Return the leaderboards as a Parquet file, each axis in a column of its type."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(to_table(summary), sink, compression="zstd")
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def to_table(summary: Summary) -> pa.Table:
    """Return the leaderboards as a table."""
    import pyarrow as pa

    from nnscan.results.schema import hyperparameters, text_of

    rows = list(_rows(summary))
    types = {name: _TYPES[name] for name in COLUMNS}
    columns = {name: pa.array([row[name] for row in rows], pa.type_for_alias(alias)) for name, alias in types.items()}
    for path, type_ in hyperparameters({axis: row.get(axis) for axis in _axes(summary)} for row in rows).items():
        values = [row.get(path) for row in rows]
        mixed = type_ == pa.string()
        columns[path] = pa.array([text_of(value) if mixed and value is not None else value for value in values], type_)
    return pa.table(columns)


_TYPES = {
    **dict.fromkeys(("scan", "metric", "family", "configuration"), "string"),
    **dict.fromkeys(("rank", "n"), "int32"),
    **dict.fromkeys(("mean", "std", "best_epoch", "seconds", "cost"), "double"),
    **dict.fromkeys(("winner", "tied"), "bool"),
    "parameters": "int64",
}


def _axes(summary: Summary) -> Iterable[str]:
    return dict.fromkeys(axis for family in summary.families for axis in family.axes)


def _rows(summary: Summary) -> Iterator[dict[str, Any]]:
    for family in summary.families:
        for leader in family.leaders:
            yield {"scan": summary.scan, "metric": summary.metric, "family": family.name, **_row(leader)}


def _row(leader: Leader) -> dict[str, Any]:
    values = {name: getattr(leader, name) for name in COLUMNS if hasattr(leader, name)}
    return {**values, **leader.hyperparameters}
