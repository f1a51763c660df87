from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.text import Text

from nnscan.cli.parts import Cells, Part, fitted, rows, wrapped


def part(name: str, entries: int, lines: int = 1, head: bool = True) -> Part:
    told = [[Text(f"{name}{entry}.{line}") for line in range(lines)] for entry in range(entries)]
    return Part(entries=told, head=[Text(name)] if head else [], more=lambda hidden: f"{hidden} more {name}")


def lines_of(parts: list[Part], height: int) -> list[str]:
    return [line.plain for line in fitted(parts, height)]


def test_with_room_all_is_shown_with_a_line_between() -> None:
    assert lines_of([part("a", 2, head=False), part("b", 1, lines=2)], 20) == ["a0.0", "a1.0", "", "b", "b0.0", "b0.1"]


def test_parts_at_the_bottom_go_first() -> None:
    assert lines_of([part("a", 1), part("b", 1), part("c", 1)], 5) == ["a", "a0.0", "", "b", "b0.0"]


def test_one_entry_of_each_comes_before_a_second_of_any() -> None:
    parts = [part("a", 3, head=False), part("b", 3)]
    assert lines_of(parts, 6) == ["a0.0", "2 more a", "", "b", "b0.0", "2 more b"]
    assert lines_of(parts, 7) == ["a0.0", "a1.0", "a2.0", "", "b", "b0.0", "2 more b"]


def test_an_entry_is_never_cut() -> None:
    assert lines_of([part("a", 1), part("b", 2, lines=2)], 7) == ["a", "a0.0", "", "b", "b0.0", "b0.1", "1 more b"]
    assert lines_of([part("a", 1), part("b", 2, lines=2)], 6) == ["a", "a0.0"]


def test_the_first_entries_are_shown_at_their_places() -> None:
    shown = Part(entries=[[Text("best")], [Text("third")], [Text("second")]], places=[0, 5, 2])
    assert lines_of([shown], 3) == ["best", "second", "third"]
    assert lines_of([shown], 2) == ["best", "third"]


@given(sizes=some.lists(some.tuples(some.integers(1, 9), some.integers(1, 3)), max_size=5), height=some.integers(0, 40))
def test_no_more_lines_are_shown_than_there_is_room_for(sizes: list[tuple[int, int]], height: int) -> None:
    parts = [part(str(place), *size) for place, size in enumerate(sizes)]
    shown = lines_of(parts, height)
    whole = lines_of(parts, 1000)
    assert len(shown) <= height
    assert (shown == whole) == (len(whole) <= height)


COLUMNS = [
    Cells(head="name", texts=["ab", "abcd"]),
    Cells(head="score", texts=["1.5", "10.5"], right=True, drop=2),
    Cells(head="of", texts=["2", "2"], drop=3),
    Cells(head="", texts=["x" * 40, "y"], takes_rest=True, drop=1),
]


@pytest.mark.parametrize(
    ("width", "heads", "first"),
    [
        (80, "name  score  of", f"ab      1.5  2   {'x' * 40}"),
        (50, "name  score  of", f"ab      1.5  2   {'x' * 32}…"),
        (44, "name  score", f"ab      1.5  {'x' * 30}…"),
        (40, "name  score", f"ab      1.5  {'x' * 26}…"),
        (24, "name", f"ab    {'x' * 17}…"),
        (10, "name", "ab"),
    ],
)
def test_columns_go_where_room_lacks(width: int, heads: str, first: str) -> None:
    head, lines = rows(COLUMNS, width)
    assert (head.plain, lines[0].plain) == (heads, first)
    assert all(len(line.plain) <= width for line in lines)


def test_texts_are_put_beside_each_other() -> None:
    assert list(wrapped(["aaa", "bbb", "c" * 20, "d"], 12)) == ["aaa   bbb", f"{'c' * 11}…", "d"]
