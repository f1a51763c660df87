from __future__ import annotations

import json
import math
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_scan import PLACE, end_row, key, start_row, write_trial

from nnscan.errors import StoreError
from nnscan.results.attempts import attempts, ended, epochs_table, steps_table, trials_table
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Journal, Writer, append_closed, close, counted, journals, read_rows
from nnscan.results.schema import Schemas


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    return ScanFolder(tmp_path)


def test_rows_come_back_as_they_were_written(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    writer.start({"trial": "a", "settings": {"x": [1, 0.1, True, "ü"]}, "time": 3.5})
    writer.epoch({"trial": "a", "epoch": 0, "metrics": {"loss": math.inf}})
    writer.steps({"trial": "a", "epoch": 1, "values": {"norm": [0.1, math.inf]}})
    writer.end({"trial": "a", "status": "completed"})
    writer.interrupted("b")
    rows, _ = read_rows(writer.journal.path)
    assert [row["row"] for row in rows] == ["writer", "start", "epoch", "steps", "end", "interrupted"]
    assert rows[0] == {"row": "writer", "writer": writer.name, "bundle": "l-0", **PLACE}
    assert rows[1] == {"row": "start", "trial": "a", "settings": {"x": [1, 0.1, True, "ü"]}, "time": 3.5}
    assert rows[2]["metrics"] == {"loss": math.inf}
    assert rows[3] == {"row": "steps", "trial": "a", "epoch": 1, "values": {"norm": [0.1, math.inf]}}
    assert rows[4]["time"] > 1.7e9


def test_a_row_can_be_read_as_soon_as_it_is_written(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    writer.epoch({"trial": "a", "epoch": 0, "metrics": {"loss": math.nan}})
    assert math.isnan(read_rows(writer.journal.path)[0][1]["metrics"]["loss"])


def test_an_end_row_is_on_the_disk_before_end_returns(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    writer = Writer(folder, "l-0", PLACE)
    writer.start(start_row(0))
    assert sizes == []
    writer.end(end_row(0))
    assert sizes == [writer.journal.path.stat().st_size]


def test_text_that_is_no_unicode_is_written_all_the_same(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    writer.end({"trial": "a", "status": "failed", "error": "no file \udcff"})
    assert read_rows(writer.journal.path)[0][1]["error"] == "no file ?"


def _written(folder: ScanFolder) -> tuple[bytes, list[dict[str, Any]]]:
    writer = Writer(folder, "l-0", PLACE)
    for number in range(2):
        write_trial(writer, number, epochs=1)
    content = writer.journal.path.read_bytes()
    return content, [json.loads(line) for line in content.splitlines()]


def test_a_journal_torn_anywhere_gives_its_whole_lines(folder: ScanFolder) -> None:
    content, rows = _written(folder)
    torn = folder.path / "torn"
    for length in range(0, len(content), 7):
        torn.write_bytes(content[:length])
        assert read_rows(torn)[0] == rows[: content[:length].count(b"\n")]


@given(start=st.integers(0, 3000), length=st.integers(0, 3000))
def test_zeros_anywhere_take_away_only_the_lines_they_touch(
    start: int, length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = ScanFolder(tmp_path_factory.mktemp("zeros"))
    content, rows = _written(folder)
    stop = min(start + length, len(content))
    holed = content[:start] + bytes(max(0, stop - start)) + content[max(start, stop) :]
    (folder.path / "holed").write_bytes(holed)
    got, _ = read_rows(folder.path / "holed")
    assert all(row in rows for row in got)
    untouched = [row for row, (first, last) in zip(rows, _spans(content), strict=True) if last <= start or first > stop]
    assert all(row in got for row in untouched if start < stop)


def _spans(content: bytes) -> Iterator[tuple[int, int]]:
    first = 0
    for line in content.splitlines(keepends=True):
        yield first, first + len(line)
        first += len(line)


@given(sizes=st.lists(st.integers(1, 400)))
def test_reading_on_from_an_offset_gives_what_one_reading_gives(
    sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = ScanFolder(tmp_path_factory.mktemp("offset"))
    content, rows = _written(folder)
    growing, got, offset, size = folder.path / "growing", [], 0, 0
    for more in [*sizes, len(content)]:
        size += more
        growing.write_bytes(content[:size])
        new, offset = read_rows(growing, offset)
        got += new
    assert got == rows
    assert offset == len(content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
kinds = st.sampled_from(["start", "epoch", "end", "step", "steps", "interrupted", "writer", "closed"])
fields = [
    "attempt",
    "values",
    "epoch",
    "metrics",
    "status",
    "settings",
    "families",
    "time",
    "best_epoch",
    "writer",
    "score",
]
odd_rows = st.fixed_dictionaries(
    {"row": kinds}, optional={"trial": st.just("a") | json_values} | dict.fromkeys(fields, json_values)
)


@given(st.lists(odd_rows, max_size=8), st.sampled_from([None, *Cause]))
def test_no_row_keeps_a_journal_from_being_read(rows: list[dict[str, Any]], cause: Cause | None) -> None:
    journal = Journal(Path("l-0.w.jsonl"), "l-0", "w", cause)
    schemas = Schemas.of({"model.x": pa.int64()})
    found = ended(journal, counted(rows)[0])
    assert trials_table(found, schemas.trials)["trial"].to_pylist() == [attempt.trial for attempt in found]
    assert set(epochs_table(found, schemas.epochs)["writer"].to_pylist()) <= {"w"}
    assert set(steps_table(found, schemas.steps)["writer"].to_pylist()) <= {"w"}


@given(content=st.binary(max_size=200))
def test_no_bytes_keep_a_journal_from_being_read(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"
    path.write_bytes(content)
    rows, offset = read_rows(path)
    assert offset == content.rfind(b"\n") + 1
    assert all("row" in row for row in rows)


def test_names_say_bundle_writer_and_cause(folder: ScanFolder) -> None:
    writers = [Writer(folder, f"l-{number}", PLACE) for number in range(4)]
    for writer, cause in zip(writers, Cause, strict=False):
        close(writer.journal, cause)
    (folder.journal / "notes.txt").write_text("not a journal")
    (folder.journal / ".hidden.w.jsonl").write_text("not a journal")
    assert [(journal.bundle, journal.writer, journal.cause) for journal in journals(folder)] == [
        (f"l-{number}", writer.name, cause)
        for number, (writer, cause) in enumerate(zip(writers, [*Cause, None], strict=True))
    ]


@pytest.mark.parametrize("bundle", ["", "a.b", "a/b"])
def test_a_bundle_that_cannot_be_part_of_a_file_name_is_refused(bundle: str, folder: ScanFolder) -> None:
    with pytest.raises(ValueError, match="no dot and no slash"):
        Writer(folder, bundle, PLACE)


@pytest.mark.parametrize("take_away", ["close", "remove", "replace"])
def test_a_writer_sees_that_its_journal_lost_its_name(take_away: str, folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    assert not writer.closed()
    if take_away == "close":
        close(writer.journal, Cause.LOST)
    else:
        writer.journal.path.unlink()
    if take_away == "replace":
        writer.journal.path.write_text("another")
    assert writer.closed()
    if take_away != "replace":
        assert writer.close() is None


def test_of_two_who_close_a_journal_one_does(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    closed = close(writer.journal, Cause.LOST)
    assert closed and closed.cause is Cause.LOST
    assert close(writer.journal, Cause.INTERRUPTED) is None
    assert [journal.cause for journal in journals(folder)] == [Cause.LOST]


def test_rows_behind_the_closed_row_do_not_count(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    os.write(writer._descriptor, b'{"row": "start", "tri')  # torn: the closed row begins a new line
    append_closed(writer.journal.path)
    writer.start(start_row(1))
    rows, is_closed = counted(read_rows(writer.journal.path)[0])
    assert [row["row"] for row in rows] == ["writer"]
    assert is_closed


def test_a_writer_that_failed_and_succeeded_at_a_trial_has_succeeded() -> None:
    journal = Journal(Path("l-0.w.jsonl"), "l-0", "w", None)

    def end(status: str, score: float) -> list[dict[str, Any]]:
        return [{"row": "start", **start_row(0)}, {"row": "end", **end_row(0, status, score=score)}]

    def scores(*rows: list[dict[str, Any]]) -> list[float]:
        return [attempt.columns()["score"] for attempt in ended(journal, chain(*rows))]

    assert scores(end("failed", 0.1), end("completed", 0.2)) == [0.2]
    assert scores(end("completed", 0.1), end("failed", 0.2), end("completed", 0.3)) == [0.1]
    assert scores(end("failed", 0.1), end("failed", 0.2)) == [0.2]


def test_fused_trials_may_take_turns_in_a_journal(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    for number in range(3):
        writer.start(start_row(number, fused=3))
    for epoch in range(2):
        for number in range(3):
            writer.epoch(
                {"trial": key("trial", number), "epoch": epoch, "metrics": {"val_loss": 10.0 * number + epoch}}
            )
    found = attempts(writer.journal, read_rows(writer.journal.path)[0])
    assert [[row["val_loss"] for row in one.epochs.values()] for one in found] == [[0, 1], [10, 11], [20, 21]]
    assert [one.columns()["fused"] for one in found] == [3, 3, 3]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Files grow no larger in this block: what a full disk does, without one."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_told_and_swallows_no_row(folder: ScanFolder) -> None:
    writer = Writer(folder, "l-0", PLACE)
    write_trial(writer, 0)
    writer.start(start_row(1))
    kept, _ = read_rows(writer.journal.path)
    for missing in (1, 40):  # the second time the row that is torn stands behind another
        size = writer.journal.path.stat().st_size
        with (
            file_size_limit(size + missing),
            pytest.raises(StoreError, match=r"ended before is kept.*Make room on the disk"),
        ):
            writer.end(end_row(1))
        assert writer.journal.path.stat().st_size == size + missing
    assert read_rows(writer.journal.path)[0] == kept
    writer.end(end_row(1))
    rows, _ = read_rows(writer.journal.path)
    assert rows[:-1] == kept
    assert rows[-1]["row"] == "end"


def test_a_folder_that_is_not_there_is_told(folder: ScanFolder) -> None:
    with pytest.raises(StoreError, match="Check the disk and its rights"):
        Writer(ScanFolder(folder.path / "gone"), "l-0", PLACE)
