import pytest

from nnscan.failure import (
    FAILURES_IN_A_ROW,
    LONGEST_ERROR,
    LONGEST_TRACEBACK,
    FailureStreak,
    Thrown,
    describe,
    is_out_of_memory,
)
from nnscan.trial import Failure


class UserError(Exception):
    """Of a user's own, who gave it no words."""


class SpeechlessError(Exception):
    """Throws while it is told."""

    def __str__(self) -> str:
        raise RuntimeError


def thrown(error: BaseException) -> Thrown:
    try:
        raise error
    except BaseException as caught:
        return describe(caught)


def test_an_exception_is_told_by_type_first_line_traceback_and_place() -> None:
    told = thrown(ValueError("first\nsecond"))
    assert told.error == "ValueError: first"
    assert told.failure is Failure.CONFIG
    assert told.traceback.startswith("Traceback (most recent call last):")
    assert told.traceback.endswith("ValueError: first\nsecond\n")
    file, _, line = told.place.rpartition(":")
    assert file == __file__
    assert int(line) > 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UserError(), "UserError"),
        (UserError("a: b"), "UserError: a: b"),
        (SystemExit(3), "SystemExit: 3"),
        (SpeechlessError(), "SpeechlessError: <it cannot be told: its __str__ throws>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_one_line_is_told_whatever_was_thrown(error: BaseException, words: str) -> None:
    assert thrown(error).error == words


def test_a_message_of_megabytes_keeps_its_ends() -> None:
    told = thrown(ValueError("a" * 2**20 + "b"))
    assert len(told.error) < LONGEST_ERROR + 50
    assert len(told.traceback) < LONGEST_TRACEBACK + 50
    assert told.traceback.startswith("Traceback")
    assert told.traceback.endswith("b\n")
    assert "characters left out" in told.error


def test_a_recursion_of_two_functions_is_told_in_bounds() -> None:
    def ping(depth: int) -> int:
        return pong(depth + 1)

    def pong(depth: int) -> int:
        return ping(depth + 1)

    with pytest.raises(RecursionError) as caught:
        ping(0)
    assert len(describe(caught.value).traceback) < LONGEST_TRACEBACK + 50


@pytest.mark.parametrize(
    ("error", "out_of_memory"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_ran_out_of_memory(error: Exception, out_of_memory: bool) -> None:
    assert is_out_of_memory(error) == out_of_memory
    assert (thrown(error).failure is Failure.OUT_OF_MEMORY) == out_of_memory


def test_torch_runs_out_of_memory_in_ways_of_its_own() -> None:
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def cause(kind: str = "ValueError", line: int = 1) -> Thrown:
    return Thrown(Failure.CONFIG, f"{kind}: words", "traceback", f"file.py:{line}")


def counted(endings: list[Thrown | None]) -> list[bool]:
    streak = FailureStreak()
    return [streak.ended(ending) for ending in endings]


def test_five_equal_failures_in_a_row_are_too_many() -> None:
    assert counted([cause()] * (FAILURES_IN_A_ROW + 1)) == [False] * (FAILURES_IN_A_ROW - 1) + [True, True]


@pytest.mark.parametrize("between", [None, cause(kind="KeyError"), cause(line=2)], ids=["success", "type", "line"])
def test_anything_else_between_begins_the_count_anew(between: Thrown | None) -> None:
    four = [cause()] * (FAILURES_IN_A_ROW - 1)
    assert not any(counted([*four, between, *four]))


def test_words_may_differ_where_type_and_line_are_the_same() -> None:
    failures: list[Thrown | None] = [
        Thrown(Failure.CONFIG, f"ValueError: {number}", "", "file.py:1") for number in range(FAILURES_IN_A_ROW)
    ]
    assert counted(failures)[-1]
