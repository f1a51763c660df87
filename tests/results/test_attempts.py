"""What the rows of a journal tell of attempts whose writer died."""

from __future__ import annotations

from typing import Any

import pytest

from nnscan.results.attempts import ended
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Death, Journal, Writer, append_death, close, read_rows
from nnscan.results.store import close_journals, ended_in_bundle, read_trials


@pytest.fixture
def folder(tmp_path):
    folder = ScanFolder(tmp_path / "scan")
    folder.path.mkdir()
    return folder


def started(folder: ScanFolder, attempt: int = 1) -> Writer:
    writer = Writer(folder, "bundle-0", {"host": "nn7"})
    writer.start({"trial": "a", "attempt": attempt, "configuration": "c", "settings": {}, "families": ["F"]})
    return writer


def closed(writer: Writer, cause: Cause) -> list[Any]:
    journal = close(writer.journal, cause)
    assert isinstance(journal, Journal)
    return ended(journal, read_rows(journal.path)[0])


def test_a_trial_whose_writer_died_is_lost(folder):
    (attempt,) = closed(started(folder), Cause.LOST)
    assert (attempt.end["status"], attempt.end["failure"]) == ("failed", "lost")
    assert attempt.end["error"] == "the worker on nn7 died in attempt 1 at it"


def test_a_trial_whose_writer_died_while_its_allocation_ended_is_as_if_it_had_not_been(folder):
    writer = started(folder)
    writer.ending("terminated")
    assert closed(writer, Cause.LOST) == []


def test_a_trial_begun_after_the_allocation_was_ending_counts_where_its_writer_died(folder):
    writer = started(folder)
    writer.end({"trial": "a", "status": "completed"})
    writer.ending("terminated")
    writer.start({"trial": "b", "attempt": 1})
    assert [attempt.trial for attempt in closed(writer, Cause.LOST)] == ["a"]


def test_a_death_of_itself_counts_whatever_signals_came(folder):
    started(folder).ending("terminated")
    close_journals(folder, lambda _: True, Cause.LOST, Death("rank 1 of 2: killed", by_itself=True))
    assert ended_in_bundle(folder, "bundle-0") == (set(), {"a": 1})


def test_how_the_writer_died_stands_in_the_row(folder):
    started(folder)
    close_journals(folder, lambda _: True, Cause.LOST, Death("killed (signal 9)", traceback="its last words"))
    (row,) = read_trials(folder).to_pylist()
    assert row["error"] == "the worker on nn7 died in attempt 1 at it: killed (signal 9)"
    assert (row["failure"], row["traceback"]) == ("lost", "its last words")
    assert ended_in_bundle(folder, "bundle-0") == (set(), {"a": 1})


def test_a_memory_limit_ends_a_trial_for_good_at_the_second_attempt(folder):
    started(folder, attempt=2)
    close_journals(folder, lambda _: True, Cause.LOST, Death("out of memory", out_of_memory=True))
    assert read_trials(folder, ["failure"]).to_pylist() == [{"failure": "out of memory"}]
    assert ended_in_bundle(folder, "bundle-0") == ({"a"}, {})


def test_a_death_told_of_a_writer_that_only_ended_changes_nothing(folder):
    writer = started(folder)
    writer.end({"trial": "a", "status": "completed"})
    append_death(writer.journal.path, Death("killed"))
    assert [attempt.end["status"] for attempt in closed(writer, Cause.LOST)] == ["completed"]


def test_a_death_begins_a_new_line_behind_a_torn_one(folder):
    writer = started(folder)
    with writer.journal.path.open("a") as file:
        file.write('{"row": "epo')
    append_death(writer.journal.path, Death("killed"))
    (attempt,) = closed(writer, Cause.LOST)
    assert attempt.end["error"].endswith(": killed")
