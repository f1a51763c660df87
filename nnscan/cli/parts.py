"""Parts of a live display, one below the other, and how many lines of each a terminal has room for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

GAP = 2
"""Spaces between columns."""

LEAST_WIDTH = 28
"""Of a column that takes what is left, where its texts are as wide: columns that say little go for it."""

NARROW_WIDTH = 12
"""Of that column, before columns go that say much."""

SAYS_LITTLE = 3
"""From that number of `drop` on."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a display."""

    entries: Sequence[Sequence[Text]]
    """Each a few lines that are shown together; the first are shown where there is no room for all."""
    places: Sequence[int] = ()
    """Of the entries on the screen, where these are not in their order."""
    more: Callable[[int], str] = lambda hidden: ""  # noqa: ARG005
    """Returns what is said of so many entries that there is no room for."""
    head: Sequence[Text] = ()


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A column of a part."""

    head: str
    texts: Sequence[str]
    right: bool = False
    """Numbers stand at the right."""
    style: str = ""
    drop: int = 0
    """Where room lacks, the column with the largest number goes first; 0 stays."""
    takes_rest: bool = False
    """Is cut to what the other columns leave."""

    @property
    def width(self) -> int:
        """Characters of its widest text."""
        return max(map(len, [self.head, *self.texts]))

    def least(self, narrow: int) -> int:
        """Return the characters that it needs; one that takes the rest no more than `narrow`."""
        return min(self.width, narrow) if self.takes_rest else self.width


def fitted(parts: Sequence[Part], height: int) -> list[Text]:
    """Return the lines of `parts` that `height` lines have room for.

    Every part gets one entry, from the top, as long as there is room, and the parts below go without; then all
    grow by turns.
    """
    shown = _shown(parts, height)
    lines: list[Text] = []
    for part, count in zip(parts, shown, strict=False):
        lines += [Text()] if lines and part.head else []
        lines += _lines(part, count)
    return lines[:height]


def _shown(parts: Sequence[Part], height: int) -> list[int]:
    """Return how many entries of each part are shown; of those at the bottom that have no room there is none."""
    shown: list[int] = []
    for part in parts:
        if _height(parts, [*shown, min(1, len(part.entries))]) > height:
            break
        shown.append(min(1, len(part.entries)))
    grows = True
    while grows:
        grows = False
        for index in range(len(shown)):
            more = [count + (place == index) for place, count in enumerate(shown)]
            if more[index] <= len(parts[index].entries) and _height(parts, more) <= height:
                shown, grows = more, True
    return shown


def _height(parts: Sequence[Part], shown: Sequence[int]) -> int:
    heights = [len(_lines(part, count)) for part, count in zip(parts, shown, strict=False)]
    gaps = sum(1 for part, _ in zip(parts[1:], shown[1:], strict=False) if part.head)
    return sum(heights) + gaps


def _lines(part: Part, count: int) -> list[Text]:
    hidden = len(part.entries) - count
    more = part.more(hidden) if hidden else ""
    order = sorted(range(count), key=lambda index: part.places[index] if part.places else index)
    lines = [line for index in order for line in part.entries[index]]
    return [*part.head, *lines, *([Text(more, style="dim")] if more else [])]


def rows(columns: Sequence[Cells], width: int) -> tuple[Text, list[Text]]:
    """Return the head and the rows of a table, none wider than `width`."""
    fitting = _fitting(columns, width)
    head = Text((" " * GAP).join(_padded(column.head, column) for column in fitting).rstrip(), style="bold")
    return head, [_row(fitting, index) for index in range(len(columns[0].texts))]


def _fitting(columns: Sequence[Cells], width: int) -> list[Cells]:
    kept = _dropped(columns, width, LEAST_WIDTH, SAYS_LITTLE)
    kept = _dropped(kept, width, NARROW_WIDTH, 1)
    rest = width - _least(kept, NARROW_WIDTH)
    return [_cut(column, column.least(NARROW_WIDTH) + rest) if column.takes_rest else column for column in kept]


def _dropped(columns: Sequence[Cells], width: int, narrow: int, first: int) -> list[Cells]:
    """Return the columns without those whose `drop` is `first` or more and which there is no room for."""
    kept = list(columns)
    while _least(kept, narrow) > width and (going := max(kept, key=lambda column: column.drop)).drop >= first:
        kept.remove(going)
    return kept


def _least(columns: Sequence[Cells], narrow: int) -> int:
    return sum(column.least(narrow) for column in columns) + GAP * (len(columns) - 1)


def _cut(column: Cells, width: int) -> Cells:
    return replace(column, texts=[cut(text, width) for text in column.texts], head=cut(column.head, width))


def cut(text: str, width: int) -> str:
    """Return a text that is no longer than `width`, with a sign where its end is missing."""
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def _row(columns: Sequence[Cells], index: int) -> Text:
    line = Text()
    for place, column in enumerate(columns):
        line.append(" " * GAP if place else "").append(_padded(column.texts[index], column), style=column.style)
    line.rstrip()
    return line


def _padded(text: str, column: Cells) -> str:
    return text.rjust(column.width) if column.right else text.ljust(column.width)


def wrapped(texts: Sequence[str], width: int, gap: str = "   ") -> Iterator[str]:
    """Yield lines of texts beside each other, none cut in two unless it is wider than a line."""
    line = ""
    for text in texts:
        if line and len(line) + len(gap) + len(text) > width:
            yield line
            line = ""
        line = f"{line}{gap if line else ''}{cut(text, width)}"
    if line:
        yield line
