from __future__ import annotations

import datetime
import json
import math
import os
import subprocess
import sys
from collections import Counter
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_scan import PLACE, end_row, key, make_folder, metrics, settings, start_row, write_start, write_trial

from nnscan.errors import StoreError
from nnscan.results import compaction, part, store
from nnscan.results.choice import DECIDING, standing
from nnscan.results.compaction import compact
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer, close, journals
from nnscan.results.metric import METRICS
from nnscan.results.part import parts
from nnscan.results.schema import TYPES, Schemas, hyperparameters, read_schemas, write_schemas
from nnscan.results.store import (
    close_journals,
    corrupt_parts,
    ended_in_bundle,
    read_epochs,
    read_steps,
    read_trials,
    reduce_epochs,
    running,
    seal,
    seal_all,
    widen,
    writing,
)


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    return make_folder(tmp_path / "scan")


def rows_of(table: pa.Table) -> dict[str, dict[str, Any]]:
    """The rows of trials/ by trial."""
    return {row["trial"]: row for row in table.to_pylist()}


def files(folder: ScanFolder) -> dict[str, bytes]:
    """Every file of the tables and of journal/, with what is in it."""
    return {str(path.relative_to(folder.path)): path.read_bytes() for path in folder.path.glob("*/*")}


# ---- what a row says ----


def test_a_row_of_trials_says_what_the_journal_said(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 7, test_loss=0.25, test_class_accuracy=[1.0, 0.5])
    (row,) = read_trials(folder).to_pylist()
    expected = {
        **PLACE,
        **{name: value for name, value in start_row(7).items() if name not in ("families", "settings", "time")},
        **{name: value for name, value in end_row(7).items() if name not in ("metrics", "time")},
        **metrics(7, 2),
        "family": "MLP",
        "started": datetime.datetime.fromtimestamp(1_767_225_607, datetime.UTC),
        "ended": datetime.datetime.fromtimestamp(1_767_225_707, datetime.UTC),
        "bundle": "l-0",
        "writer": writer.name,
        "test_loss": 0.25,
        "test_accuracy": None,
        "test_class_accuracy": [1.0, 0.5],
        "model.name": "mlp",
        "model.width": 128,
        "model.channels": [8, 16],
        "optimizer.name": "adam",
        "optimizer.learning_rate": 0.01,
        "optimizer.schedule.name": "constant",
        "training.epochs": 3,
    }
    assert row == expected


def test_epochs_say_what_the_journal_said(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 7)
    rows = read_epochs(folder).to_pylist()
    absent = dict.fromkeys(("train_loss", "train_accuracy"))
    place = {"trial": key("trial", 7), "configuration": key("configuration", 1), "kind": "trial"}
    place |= {"fold": 2, "replicate": 0, "attempt": 1, "writer": writer.name}
    assert rows == [{**place, "epoch": epoch, **absent, **metrics(7, epoch)} for epoch in range(3)]


def test_steps_say_what_the_journal_said(folder: ScanFolder) -> None:
    trial = key("trial", 0)
    with writing(folder, "l-0", PLACE) as writer:
        write_start(writer, 0)
        writer.steps({"trial": trial, "epoch": 1, "values": {"loss": [0.5, math.inf], "accuracy": [0.25, 1]}})
        writer.steps({"trial": trial, "epoch": 2, "values": {"loss": [0.125]}})
        writer.end(end_row(0))
    told = [(1, 0, "loss", 0.5), (1, 1, "loss", math.inf), (1, 0, "accuracy", 0.25), (1, 1, "accuracy", 1.0)]
    names = ("epoch", "step", "name", "value")
    rows = [dict(zip(names, row, strict=True)) for row in [*told, (2, 0, "loss", 0.125)]]
    assert read_steps(folder).to_pylist() == [
        {"trial": trial, **row, "attempt": 1, "writer": writer.name} for row in rows
    ]
    losses = read_steps(folder, [trial], ["value", "name"]).to_pylist()
    assert losses[0] == {"value": 0.5, "name": "loss"}


def test_steps_of_an_older_journal_are_read(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_start(writer, 0)
        row = {"trial": key("trial", 0), "epoch": 1, "step": 5, "name": "gradient_norm", "value": math.inf}
        with writer.journal.path.open("a") as file:
            file.write(json.dumps({"row": "step", **row}) + "\n")
        writer.end(end_row(0))
    assert read_steps(folder).to_pylist() == [{**row, "attempt": 1, "writer": writer.name}]


def test_values_of_steps_that_are_none_keep_back_no_others(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_start(writer, 0)
        values = {"loss": [0.5, "high", 0.25], "no list": 3, "nothing": [], "norm": [1]}
        writer.steps({"trial": key("trial", 0), "epoch": 1, "values": values})
        writer.end(end_row(0))
    found = read_steps(folder).select(["name", "value"]).to_pydict()
    assert found == {"name": ["loss"] * 3 + ["norm"], "value": [0.5, None, 0.25, 1.0]}


def test_the_score_may_be_nan_and_what_is_not_known_is_null(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 0, status="diverged", score=math.nan, best_epoch=None, metrics={"val_loss": math.nan})
    (row,) = read_trials(folder).to_pylist()
    assert row["status"] == "diverged"
    assert math.isnan(row["score"])
    assert math.isnan(row["val_loss"])
    assert (row["best_epoch"], row["val_accuracy"]) == (None, None)


def test_a_value_that_its_column_cannot_hold_does_not_keep_back_the_others(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 0, parameters=2**70, seconds="long")
        write_trial(writer, 1)
    rows = rows_of(read_trials(folder))
    assert (rows[key("trial", 0)]["parameters"], rows[key("trial", 0)]["seconds"]) == (None, None)
    assert rows[key("trial", 1)]["parameters"] == 1001


# ---- sealing ----


def test_reading_gives_the_same_before_and_after_sealing_and_compaction(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    for number in range(4):
        write_trial(writer, number)
    write_start(writer, 4)
    seen = []
    for step in (None, lambda: close_journals(folder, lambda _: True, Cause.INTERRUPTED), lambda: compact(folder)):
        if step:
            step()
        seen.append((read_trials(folder), read_epochs(folder)))
    assert seen[0][0].num_rows == 4
    assert seen[0][1].num_rows == 12
    assert seen[0] == seen[1] == seen[2]


def test_a_journal_is_sealed_into_one_file_a_table_and_removed(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        for number in range(3):
            write_trial(writer, number)
    name = f"l-0.{writer.name}.parquet"
    assert sorted(files(folder)) == [f"epochs/{name}", f"trials/{name}"]
    assert pq.read_table(folder.trials / name).schema == read_schemas(folder).trials  # type: ignore[union-attr]


def test_a_block_that_raises_is_sealed_too(folder: ScanFolder) -> None:
    with pytest.raises(KeyboardInterrupt), writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 0)
        raise KeyboardInterrupt
    assert len(parts(folder.trials)) == 1


def test_a_journal_with_nothing_ended_leaves_no_part(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_start(writer, 0)
    assert files(folder) == {}


def test_sealing_twice_gives_the_same_bytes(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    journal = close(writer.journal, Cause.LOST)
    assert journal
    content = journal.path.read_bytes()
    seal(folder, journal)
    once = files(folder)
    journal.path.write_bytes(content)  # as if the first sealer had died before it removed the journal
    seal_all(folder)
    assert files(folder) == once
    seal(folder, journal)  # and a third, to which the journal is gone
    assert files(folder) == once


def test_what_a_zombie_appends_after_the_first_sealer_came_counts_for_nobody(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    journal = close(writer.journal, Cause.LOST)
    assert journal
    with monkeypatch.context() as context:  # a sealer that dies before it writes parts
        context.setattr(store, "write_part", lambda *_: pytest.fail("dead"))
        with pytest.raises(pytest.fail.Exception):
            seal(folder, journal)
    write_trial(writer, 1)
    assert read_trials(folder, ["trial"])["trial"].to_pylist() == [key("trial", 0)]
    seal_all(folder)
    assert read_trials(folder, ["trial"])["trial"].to_pylist() == [key("trial", 0)]


def test_epochs_are_in_place_before_the_trial_is(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    write_part = store.write_part

    def note(path: Path, *more: Any) -> None:
        order.append(path.parent.name)
        write_part(path, *more)

    monkeypatch.setattr(store, "write_part", note)
    with writing(folder, "l-0", PLACE) as writer:
        writer.start(start_row(0))
        writer.steps({"trial": key("trial", 0), "epoch": 1, "values": {"norm": [1.0]}})
        writer.epoch({"trial": key("trial", 0), "epoch": 0, "metrics": {}})
        writer.end(end_row(0))
    assert order[-1] == "trials"
    assert set(order[:-1]) == {"epochs", "steps"}


def test_only_the_journals_of_the_chosen_bundles_are_closed(folder: ScanFolder) -> None:
    mine, other = Writer(folder, "l-1", PLACE), Writer(folder, "l-10", PLACE)
    close_journals(folder, lambda name: name == "l-1", Cause.LOST)
    assert mine.closed()
    assert not other.closed()
    assert [journal.writer for journal in journals(folder)] == [other.name]


# ---- lost attempts ----


def test_the_trial_in_which_a_writer_died_becomes_a_lost_one(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    writer.start(start_row(1, attempt=2))
    writer.epoch({"trial": key("trial", 1), "epoch": 0, "metrics": metrics(1, 0), "time": 1_767_225_650.0})
    close_journals(folder, lambda _: True, Cause.LOST)
    row = rows_of(read_trials(folder))[key("trial", 1)]
    assert (row["status"], row["failure"], row["attempt"], row["score"]) == ("failed", "lost", 2, None)
    assert row["error"] == "the worker on node1 died in attempt 2 at it"
    assert row["ended"] == datetime.datetime.fromtimestamp(1_767_225_650, datetime.UTC)
    assert row["optimizer.learning_rate"] == 0.01
    assert ended_in_bundle(folder, "l-0") == ({key("trial", 0)}, {key("trial", 1): 2})


@pytest.mark.parametrize("cause", [Cause.ENDED, Cause.INTERRUPTED])
def test_without_a_death_nothing_is_written_of_unfinished_trials(cause: Cause, folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_start(writer, 0)
    close_journals(folder, lambda _: True, cause)
    assert read_trials(folder).num_rows == 0


def test_an_interrupted_attempt_does_not_count_as_lost(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_start(writer, 0)
    writer.interrupted(key("trial", 0))
    close_journals(folder, lambda _: True, Cause.LOST)
    assert ended_in_bundle(folder, "l-0") == (set(), {})


def test_a_bundle_knows_what_its_earlier_attempts_made_after_compaction_too(folder: ScanFolder) -> None:
    for attempt in (1, 2):
        writer = Writer(folder, "l-0", PLACE)
        write_start(writer, 5, attempt=attempt)
        if attempt == 1:
            write_trial(writer, 0)
        close_journals(folder, lambda _: True, Cause.LOST)
    with writing(folder, "l-1", PLACE) as writer:
        write_trial(writer, 9)
    for do in (lambda: None, lambda: compact(folder)):
        do()
        assert ended_in_bundle(folder, "l-0") == ({key("trial", 0)}, {key("trial", 5): 2})


# ---- one attempt a trial ----


def _plain_choice(rows: list[dict[str, Any]]) -> set[int]:
    """Design rule 6, said again in plain code: the numbers of the rows that stand."""

    def order(number: int) -> tuple[Any, ...]:
        row = rows[number]
        failed = row["status"] == "failed"
        return failed, -row["ended"] if failed else row["ended"], row["writer"], number

    by_trial: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_trial.setdefault(row["trial"], []).append(number)
    return {min(numbers, key=order) for numbers in by_trial.values()}


attempts = st.fixed_dictionaries(
    {
        "trial": st.sampled_from("abc"),
        "status": st.sampled_from(["completed", "diverged", "failed"]),
        "ended": st.integers(0, 3),
        "writer": st.sampled_from("xyz"),
    }
)


@given(st.lists(attempts, max_size=12))
def test_the_attempt_that_stands_is_that_of_rule_6(rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, DECIDING)
    mask = standing(table)
    stand = set(range(len(rows)) if mask is None else np.flatnonzero(mask).tolist())
    assert stand == _plain_choice(rows)


def test_of_two_attempts_all_rows_are_those_of_one(folder: ScanFolder) -> None:
    for mark, more in ((1.0, {"status": "failed"}), (2.0, {"time": 2e9}), (3.0, {"time": 1.9e9}), (4.0, {"time": 3e9})):
        with writing(folder, f"l-{mark:.0f}", PLACE) as writer:
            write_trial(writer, 0, mark=mark, **more)
    writer = Writer(folder, "l-9", PLACE)
    write_trial(writer, 0, mark=9.0, time=2.5e9)
    for do in (lambda: None, lambda: compact(folder)):
        do()
        assert read_trials(folder, ["bundle"]).to_pylist() == [{"bundle": "l-3"}]
        assert read_epochs(folder, columns=["epoch", "learning_rate"]).to_pydict() == {
            "epoch": [0, 1, 2],
            "learning_rate": [3.1, 3.1, 3.1],
        }


# ---- reading ----


def test_an_empty_folder_gives_empty_tables_with_all_columns(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    assert (read_trials(folder).num_rows, read_epochs(folder).num_rows, running(folder)) == (0, 0, [])
    assert read_trials(folder).schema == Schemas.of({}).trials
    assert read_trials(folder, ["score", "trial"]).column_names == ["score", "trial"]


@pytest.mark.parametrize("sealed", [False, True])
def test_only_the_columns_asked_for_come_in_their_order(sealed: bool, folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    if sealed:
        close_journals(folder, lambda _: True, Cause.ENDED)
    table = read_trials(folder, ["optimizer.learning_rate", "score"])
    assert table.column_names == ["optimizer.learning_rate", "score"]
    assert read_epochs(folder, columns=["epoch"]).to_pydict() == {"epoch": [0, 1, 2]}


def test_a_column_that_is_not_there_is_told_with_the_nearest(folder: ScanFolder) -> None:
    with pytest.raises(ValueError, match=r"no column 'optimizer\.lerning_rate'\. Near: optimizer\.learning_rate"):
        read_trials(folder, ["optimizer.lerning_rate"])


def test_epochs_of_some_trials(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        for number in range(4):
            write_trial(writer, number)
    wanted = {key("trial", 1), key("trial", 3)}
    table = read_epochs(folder, wanted)
    assert set(table["trial"].to_pylist()) == wanted
    assert table.num_rows == 6
    assert read_epochs(folder, []).num_rows == 0


def _first_epochs(rows: pa.Table) -> pa.Table:
    assert all(pa.types.is_dictionary(rows[name].type) for name in ("trial", "writer"))
    return rows.filter(pc.equal(rows["epoch"], 1))


@pytest.mark.parametrize("compacted", [False, True])
def test_of_epochs_what_a_reduction_leaves_stays(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch, *, compacted: bool
) -> None:
    """Of the attempts that stand, from however many row groups, in whatever threads."""
    monkeypatch.setattr(part, "ROWS_PER_GROUP", 4)
    monkeypatch.setattr(pa, "cpu_count", lambda: 3)
    _bundle(folder, "l-0", 0, 20)
    with writing(folder, "l-1", PLACE) as writer:
        for number in range(5, 9):
            write_trial(writer, number, mark=0.5, time=1e9)  # these ended before those of the first writer
    if compacted:
        compact(folder)
    else:
        write_trial(Writer(folder, "l-2", PLACE), 20)  # in a journal still
    columns = ["epoch", "trial", "learning_rate"]
    whole = read_epochs(folder, columns=columns)
    expected = whole.filter(pc.equal(whole["epoch"], 1)).sort_by("trial").to_pylist()
    left = reduce_epochs(folder, columns, _first_epochs).to_pylist()
    assert sorted(left, key=itemgetter("trial")) == expected
    assert Counter(row["learning_rate"] for row in expected) == {0.1: 16 if compacted else 17, 0.6: 4}


def test_of_no_epochs_a_reduction_leaves_none(folder: ScanFolder) -> None:
    assert reduce_epochs(folder, ["trial", "epoch"], _first_epochs).to_pydict() == {"trial": [], "epoch": []}


def test_row_groups_are_reduced_in_their_order(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pa, "cpu_count", lambda: 4)
    schema = pa.schema({"trial": pa.string(), "epoch": pa.int32()})
    monkeypatch.setattr(part, "ROWS_PER_GROUP", 10)
    table = pa.table([pa.array(list(map(str, range(95)))), pa.array(range(95), pa.int32())], schema=schema)
    part.write_part(folder.epochs / "a.parquet", [table], schema)
    (found,) = part.parts(folder.epochs)
    reduced = part.reduce_groups(found, schema, lambda rows: rows.slice(0, 2))
    assert [piece["epoch"].to_pylist() for piece in reduced] == [[first, first + 1] for first in range(0, 95, 10)]


@pytest.mark.parametrize("sealed", [True, False])
def test_text_may_come_as_dictionaries(folder: ScanFolder, *, sealed: bool) -> None:
    """Also of a part that has the column in another type, or not yet, as a launch that widens the schema leaves it."""
    _bundle(folder, "l-0", 0, 3)
    more = settings(0) | {"optimizer": {"name": "adam", "learning_rate": "fast", "amsgrad": "yes"}}
    write_schemas(folder, Schemas.of(hyperparameters([settings(0), more]), METRICS))
    writer = Writer(folder, "l-1", PLACE)
    write_trial(writer, 3, status="failed")
    if sealed:
        writer.close()
        close_journals(folder, lambda name: True, Cause.INTERRUPTED)
    encoded = ["status", "error", "optimizer.learning_rate", "optimizer.amsgrad"]
    columns = ["trial", *encoded, "score"]
    found, plain = read_trials(folder, columns, encoded), read_trials(folder, columns)
    assert [name for name in columns if pa.types.is_dictionary(found[name].type)] == encoded
    assert found.to_pylist() == plain.to_pylist()
    assert set(plain["optimizer.learning_rate"].to_pylist()) == {"0.1", "0.01", "0.001"}


def test_running_trials_are_those_without_an_end_in_open_journals(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    write_start(writer, 1)
    writer.interrupted(key("trial", 1))
    write_start(writer, 2, epochs=1, attempt=2)
    writer.start(start_row(3))
    dead = Writer(folder, "l-1", PLACE)
    write_start(dead, 4)
    close(dead.journal, Cause.LOST)
    two, three = running(folder)
    assert (two.trial, two.attempt, two.epoch, two.metrics) == (key("trial", 2), 2, 1, metrics(2, 1))
    assert (two.families, two.fold, two.epochs, two.host, two.bundle) == (("MLP", "also"), 2, 3, "node1", "l-0")
    assert (three.trial, three.epoch, three.metrics) == (key("trial", 3), None, {})


def test_fifty_open_journals_are_read_at_once(folder: ScanFolder) -> None:
    writers = [Writer(folder, f"l-{number}", PLACE) for number in range(50)]
    for number, writer in enumerate(writers):
        write_trial(writer, 2 * number)
        write_start(writer, 2 * number + 1)
    assert read_trials(folder).num_rows == len(running(folder)) == 50
    for number, writer in enumerate(writers[::2]):
        writer.end(end_row(4 * number + 1))
    assert read_trials(folder).num_rows == 75
    assert read_epochs(folder).num_rows == 75 * 3


def test_other_tools_open_the_folders(folder: ScanFolder) -> None:
    for bundle in range(2):
        with writing(folder, f"l-{bundle}", PLACE) as writer:
            for number in range(3 * bundle, 3 * bundle + 3):
                write_trial(writer, number)
    by_pandas = pandas.read_parquet(folder.trials)
    by_polars = polars.read_parquet(folder.trials)
    by_duckdb = duckdb.sql(f"select * from read_parquet('{folder.trials}/*.parquet')")
    assert len(by_pandas) == len(by_polars) == len(by_duckdb) == 6
    assert by_pandas["optimizer.learning_rate"].dtype == np.float64
    assert str(by_pandas["started"].dt.tz) == "UTC"
    assert by_polars.schema["model.width"] == polars.Int64
    query = 'select avg(score) from by_duckdb where "model.width" = 32'
    assert duckdb.sql(query).fetchall() == [(by_pandas["score"][by_pandas["model.width"] == 32].mean(),)]


IMPORTED = """
import sys
from pathlib import Path
from nnscan.results import compaction, folder, store
scan = folder.ScanFolder(Path(sys.argv[1]))
def imported():
    return [name for name in ("torch", "ray", "pandas", "pyarrow.dataset") if name in sys.modules]
store.read_trials(scan)
print(imported())
store.read_epochs(scan)
print(imported())
"""


def test_reading_imports_little(folder: ScanFolder) -> None:
    """Arrow imports pandas, where it is there, for many a small thing: 0.2 s that reading compacted trials saves."""
    _bundle(folder, "l-0", 0, 1)
    compact(folder)
    command = [sys.executable, "-c", IMPORTED, str(folder.path)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert lines == ["[]", "['pandas']"]


# ---- widening ----


def test_a_wider_schema_reaches_the_old_parts(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 0)
    old = rows_of(read_trials(folder))
    more = [{"model": {"arguments": {"heads": 4}}, "optimizer": {"learning_rate": "auto"}}]
    wide = widen(folder, Schemas.of(hyperparameters(more), [*METRICS, "f1"]))
    assert read_schemas(folder) == wide
    (path,) = folder.trials.glob("*.parquet")
    assert pq.read_schema(path).equals(wide.trials)
    new = {**old[key("trial", 0)], "optimizer.learning_rate": "0.1", "model.arguments.heads": None, "f1": None}
    assert rows_of(read_trials(folder)) == {key("trial", 0): new}
    assert pq.read_schema(next(folder.epochs.glob("*.parquet"))).equals(wide.epochs)
    with writing(folder, "l-1", PLACE) as writer:
        writer.start(start_row(1, settings={**settings(1), **more[0]}))
        writer.end(end_row(1, metrics={"f1": 0.5}))
    assert rows_of(read_trials(folder))[key("trial", 1)]["model.arguments.heads"] == 4
    assert set(pandas.read_parquet(folder.trials)["optimizer.learning_rate"]) == {"0.1", "auto"}


VALUES = {
    "bool": ([True, None], ["true", None]),
    "int64": ([3, None], ["3", None]),
    "double": ([0.1, 1.0], ["0.1", "1.0"]),
    "string": (["a", '"3"'], ["a", '"3"']),
    "list<int64>": ([[1, 2], None], ["[1, 2]", None]),
    "list<string>": ([["a"], []], ['["a"]', "[]"]),
}


@pytest.mark.parametrize("type_", VALUES)
def test_a_column_that_becomes_text_keeps_its_values(type_: str) -> None:
    values, text = VALUES[type_]
    table = pa.Table.from_arrays([pa.array(values, TYPES[type_])], ["a.x"])
    assert part.conform(table, pa.schema({"a.x": pa.string()}))["a.x"].to_pylist() == text


def test_an_option_that_came_later_has_the_value_that_was_so_before() -> None:
    before = pa.table({"training.batch_size": pa.array([64, None])})  # the second by a training function
    columns = {"training.batch_size": pa.int64(), "training.accumulation": pa.int64(), "model.width": pa.int64()}
    wide = part.conform(before, pa.schema({**columns, "training.steps": TYPES["list<string>"]}))
    assert wide["training.accumulation"].to_pylist() == [1, None]
    assert wide["training.steps"].to_pylist() == [[], None]
    text = part.conform(before, pa.schema({**columns, "training.steps": pa.string()}))
    assert text["training.steps"].to_pylist() == ["[]", None]
    assert wide["model.width"].to_pylist() == [None, None]


def test_nothing_is_rewritten_where_the_schema_stays(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 0)
    before = {path: path.stat().st_ino for path in folder.path.rglob("*")}
    widen(folder, Schemas.of(hyperparameters([settings(1)])))
    assert {path: path.stat().st_ino for path in folder.path.rglob("*")} == before


def test_a_launch_killed_while_it_widens_leaves_tables_that_read(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bundle in range(3):
        with writing(folder, f"l-{bundle}", PLACE) as writer:
            write_trial(writer, bundle)
    rewritten: list[Path] = []
    write_part = store.write_part

    def die_at_the_third(path: Path, *more: Any) -> None:
        if len(rewritten) == 2:
            raise KeyboardInterrupt
        rewritten.append(path)
        write_part(path, *more)

    wider = Schemas.of({"model.arguments.heads": pa.int64(), "model.width": pa.string()})
    with monkeypatch.context() as context:
        context.setattr(store, "write_part", die_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            widen(folder, wider)
    rows = rows_of(read_trials(folder))
    assert {row["model.width"] for row in rows.values()} == {"32", "64", "96"}
    wide = widen(folder, wider)
    assert {pq.read_schema(path).to_string() for path in folder.trials.iterdir()} == {wide.trials.to_string()}
    assert rows_of(read_trials(folder)) == rows


def test_a_sealer_that_a_launch_overtakes_writes_the_wider_schema(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_part = store.write_part
    wide: list[Schemas] = []

    def widen_first(path: Path, *more: Any) -> None:
        if not wide:
            wide.append(widen(folder, Schemas.of({"model.arguments.heads": pa.int64()})))
        write_part(path, *more)

    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    monkeypatch.setattr(store, "write_part", widen_first)
    close_journals(folder, lambda _: True, Cause.ENDED)
    assert pq.read_schema(next(folder.trials.iterdir())).equals(wide[0].trials)


def test_a_lost_schema_is_found_again_in_the_parts(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        write_trial(writer, 0)
    schemas = read_schemas(folder)
    folder.schema.unlink()
    assert read_trials(folder).num_rows == 1
    with writing(folder, "l-1", PLACE) as writer:
        write_trial(writer, 1)
    assert widen(folder, Schemas.of({})) == schemas


# ---- compaction ----


def _names(table: Path) -> set[str]:
    return {path.name for path in table.iterdir()}


def _bundle(folder: ScanFolder, bundle: str, first: int, count: int) -> None:
    with writing(folder, bundle, PLACE) as writer:
        for number in range(first, first + count):
            write_trial(writer, number, epochs=1)


def test_compaction_leaves_one_part_a_table(folder: ScanFolder) -> None:
    for bundle in range(5):
        _bundle(folder, f"l-{bundle}", 3 * bundle, 3)
    before = rows_of(read_trials(folder)), read_epochs(folder).num_rows
    compact(folder)
    assert len(_names(folder.trials)) == len(_names(folder.epochs)) == 1
    assert (rows_of(read_trials(folder)), read_epochs(folder).num_rows) == before
    once = files(folder)
    compact(folder)
    assert files(folder) == once


def test_ten_new_trials_do_not_rewrite_a_large_part(folder: ScanFolder) -> None:
    _bundle(folder, "l-0", 0, 60)
    compact(folder)
    large = _names(folder.trials) | _names(folder.epochs)
    _bundle(folder, "l-1", 60, 10)
    compact(folder)
    names = _names(folder.trials) | _names(folder.epochs)
    assert large < names
    assert len(names) == 4
    assert len(rows_of(read_trials(folder))) == pandas.read_parquet(folder.trials)["trial"].nunique() == 70


def test_parts_stay_few_and_rows_are_rewritten_seldom(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    write_part = compaction.write_part

    def count(path: Path, rows: Any, *more: Any, **named: Any) -> None:
        write_part(path, rows, *more, **named)
        written.append(pq.read_metadata(path).num_rows if path.parent == folder.trials else 0)

    monkeypatch.setattr(compaction, "write_part", count)
    for bundle in range(32):
        _bundle(folder, f"l-{bundle}", bundle, 1)
        compact(folder)
        assert len(_names(folder.trials)) <= 1 + math.log2(bundle + 1)
    assert read_trials(folder).num_rows == 32
    assert sum(written) <= 32 * (1 + math.log2(32))


def test_a_part_with_a_row_that_no_longer_stands_is_rewritten(folder: ScanFolder) -> None:
    with writing(folder, "l-0", PLACE) as writer:
        for number in range(30):
            write_trial(writer, number, status="failed" if number == 3 else "completed")
    compact(folder)
    with writing(folder, "l-1", PLACE) as writer:
        write_trial(writer, 3, mark=1.0)
    compact(folder)
    by_pandas = pandas.read_parquet(folder.trials)
    assert len(by_pandas) == by_pandas["trial"].nunique() == 30
    assert set(by_pandas["status"]) == {"completed"}
    epochs = pandas.read_parquet(folder.epochs)
    assert len(epochs) == 90
    assert set(epochs[epochs["trial"] == key("trial", 3)]["learning_rate"]) == {1.1}


@pytest.mark.parametrize("die_at", range(6))
def test_a_compaction_killed_at_any_removal_is_finished_by_the_next(
    die_at: int, folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bundle(folder, "l-0", 0, 2)
    compact(folder)
    _bundle(folder, "l-1", 2, 1)
    _bundle(folder, "again", 0, 1)
    expected = rows_of(read_trials(folder))
    left = iter(range(die_at))
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".parquet" and next(left, None) is None:
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(Path, "unlink", die)
        compact(folder)
    assert rows_of(read_trials(folder)) == expected
    assert read_trials(folder).num_rows == 3
    assert read_epochs(folder).num_rows == 6
    compact(folder)
    assert rows_of(read_trials(folder)) == expected
    assert len(pandas.read_parquet(folder.trials)) == 3
    assert len(pandas.read_parquet(folder.epochs)) == 6


def test_epochs_whose_trials_are_not_yet_in_place_are_left_alone(
    folder: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    _bundle(folder, "l-0", 0, 1)
    write_part = store.write_part

    def compact_before_trials(path: Path, *more: Any) -> None:
        if path.parent == folder.trials:
            monkeypatch.setattr(compaction, "seal_all", lambda _: None)  # the journal was closed just behind it
            compact(folder)
        write_part(path, *more)

    monkeypatch.setattr(store, "write_part", compact_before_trials)
    _bundle(folder, "l-1", 1, 1)
    assert read_epochs(folder).num_rows == 4
    compact(folder)
    assert len(pandas.read_parquet(folder.epochs)) == 4


def test_what_a_killed_writer_of_parts_left_is_removed_after_a_day(folder: ScanFolder) -> None:
    _bundle(folder, "l-0", 0, 1)
    old, young = (folder.trials / f".l-{number}.w.parquet.0" for number in range(2))
    for path in (old, young):
        path.write_bytes(b"half a part")
    os.utime(old, (0, 0))
    compact(folder)
    assert not old.exists()
    assert young.exists()
    assert read_trials(folder).num_rows == 1


def test_a_part_sealed_again_after_compaction_doubles_nothing(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    journal = close(writer.journal, Cause.ENDED)
    assert journal
    content = journal.path.read_bytes()
    seal(folder, journal)
    compact(folder)
    journal.path.write_bytes(content)  # a sealer that read the journal long ago
    seal(folder, journal)
    assert (read_trials(folder).num_rows, read_epochs(folder).num_rows) == (1, 3)
    compact(folder)
    assert (len(pandas.read_parquet(folder.trials)), len(pandas.read_parquet(folder.epochs))) == (1, 3)


# ---- damage ----


DAMAGES = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "garbage": lambda content: b"PAR1 is no part PAR1",
    "zeros": lambda content: bytes(len(content)),
    "footer": lambda content: content[:-900] + bytes(892) + content[-8:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named_with_what_to_do(damage: str, folder: ScanFolder) -> None:
    _bundle(folder, "l-0", 0, 2)
    _bundle(folder, "l-1", 2, 2)
    victim = sorted(folder.trials.iterdir())[0]
    victim.write_bytes(DAMAGES[damage](victim.read_bytes()))
    for read in (read_trials, read_epochs, compact):
        with pytest.raises(StoreError) as caught:
            read(folder)
        assert f"mv {victim} {victim}.corrupt" in str(caught.value)
        assert "run again" in str(caught.value)
    (found,) = corrupt_parts(folder)
    assert str(victim) in str(found)
    victim.rename(f"{victim}.corrupt")
    assert read_trials(folder).num_rows == 2
    assert corrupt_parts(folder) == []


def test_a_part_that_the_system_does_not_open_is_not_called_corrupt(folder: ScanFolder) -> None:
    folder.trials.mkdir()
    path = folder.trials / "l-0.w.parquet"
    path.symlink_to(path)
    with pytest.raises(StoreError, match=r"cannot read .*Check the disk") as caught:
        read_trials(folder)
    assert "corrupt" not in str(caught.value)


def test_a_flipped_bit_is_noticed(folder: ScanFolder) -> None:
    """Also where Zstandard keeps what it cannot compress as it is, and would not notice."""
    numbers = pa.array(np.random.default_rng(0).random(1000))
    path = folder.trials / "l-0.w.parquet"
    part.write_part(path, [pa.Table.from_arrays([numbers], ["score"])], pa.schema({"score": pa.float64()}))
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"trials/l-0\.w\.parquet does not read"):
        read_trials(folder, ["score"])


def test_a_part_that_cannot_be_written_leaves_the_journal(folder: ScanFolder) -> None:
    folder.trials.write_text("a file in the place of the folder")
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    with pytest.raises(StoreError, match=r"cannot write .*What had finished is kept"):
        close_journals(folder, lambda _: True, Cause.LOST)
    assert len(journals(folder)) == 1
    folder.trials.unlink()
    assert read_trials(folder).num_rows == 1
    seal_all(folder)
    assert read_trials(folder).num_rows == 1
    assert journals(folder) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from synthetic_scan import PLACE, write_trial
from nnscan.errors import StoreError
from nnscan.results.folder import ScanFolder
from nnscan.results.store import writing
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
ended = 0
try:
    with writing(ScanFolder(Path(sys.argv[1])), "l-0", PLACE) as writer:
        for number in range(100):
            write_trial(writer, number)
            ended += 1
except StoreError as error:
    print(ended, error)
"""


@pytest.mark.parametrize("size", [2_000, 10_000, 20_000])
def test_a_disk_that_fills_keeps_every_trial_that_ended(size: int, folder: ScanFolder) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(folder.path), str(Path(__file__).parent), str(size)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    count, text = said.split(" ", 1)
    assert "launch again" in text
    assert read_trials(folder).num_rows == int(count)
    close_journals(folder, lambda _: True, Cause.INTERRUPTED)  # the next launch, with room
    assert read_trials(folder).num_rows == int(count)
    assert read_epochs(folder).num_rows == int(count) * 3
