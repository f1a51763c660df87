from __future__ import annotations

from pathlib import Path

import pytest

from nnscan.results.cancelled import Cancelled, read_cancelled, write_cancelled
from nnscan.results.folder import ScanFolder


def cancelled(families: str = "", trials: str = "") -> Cancelled:
    return Cancelled(frozenset(families.split()), frozenset(trials.split()))


@pytest.mark.parametrize(
    ("what", "families", "covered"),
    [
        (cancelled(trials="a b"), ["MLP"], True),
        (cancelled(trials="b"), ["MLP"], False),
        (cancelled("MLP"), ["MLP"], True),
        (cancelled("MLP"), ["MLP", "CNN"], False),
        (cancelled("MLP CNN"), ["MLP", "CNN"], True),
        (cancelled("CNN", "b"), ["MLP"], False),
        (cancelled(), ["MLP"], False),
        (cancelled(), [], False),
    ],
)
def test_a_trial_is_covered_by_itself_or_by_all_of_its_families(
    what: Cancelled, families: list[str], covered: bool
) -> None:
    assert what.covers("a", families) is covered


def test_what_is_cancelled_adds_up(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    write_cancelled(folder, cancelled("MLP", "a"))
    assert write_cancelled(folder, cancelled("CNN", "b a")) == cancelled("MLP CNN", "a b") == read_cancelled(folder)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"families": 3, "trials": []}', '{"families": [', "\0\0"])
def test_a_file_that_does_not_read_cancels_nothing(tmp_path: Path, text: str) -> None:
    folder = ScanFolder(tmp_path)
    folder.cancelled.write_text(text)
    assert not read_cancelled(folder)


def test_without_the_file_nothing_is_cancelled(tmp_path: Path) -> None:
    assert not read_cancelled(ScanFolder(tmp_path))
