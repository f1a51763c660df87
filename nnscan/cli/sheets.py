"""What the tables of a summary say: words for counts and causes, and the cells of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnscan.cli.wording import count
from nnscan.results.wording import KEY_DIGITS, value_text

if TYPE_CHECKING:
    from nnscan.results.leaderboard import FamilySummary, Incomplete, Leader
    from nnscan.results.summary import Summary, Trouble


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, and a text a row."""

    head: str
    cells: Sequence[str]
    right: bool = False
    """Numbers stand at the right."""

    @property
    def width(self) -> int:
        """Characters of its widest text; a head may have several lines."""
        return max(map(len, [*self.cells, *self.head.split("\n")]))


def counts_line(summary: Summary) -> str:
    """Return how many trials are in which state."""
    counts = summary.counts
    states = ("completed", "diverged", "failed", "running", "pending")
    said = ", ".join(f"{getattr(counts, state):,} {state}" for state in states if getattr(counts, state))
    return f"{summary.scan}: {count(counts.total, 'trial')}, {said}"


def family_line(family: FamilySummary) -> str:
    """Return how many configurations a family has, and how many of them could win."""
    parts = [count(family.configurations, "configuration"), f"{family.complete:,} complete"]
    parts += [f"{family.begun:,} begun"] if family.begun else []
    parts += [f"{family.untouched:,} not begun"] if family.untouched else []
    return f"{family.name}: {', '.join(parts)}"


def trouble_lines(trouble: Trouble, rerun: str) -> Iterator[str]:
    """Yield a cause with how often it struck, and the command that runs one of its trials alone."""
    kind = f"{trouble.status} ({trouble.failure})" if trouble.failure else trouble.status
    yield f"{trouble.count:,} {kind}: {trouble.cause or 'no message'}"
    yield f"    {rerun} --cluster inline --trial {trouble.trial[:KEY_DIGITS]}"


def axis_columns(rows: Sequence[Leader | Incomplete], axes: Sequence[str]) -> list[Column]:
    """Return a column an axis, under its dotted path; each value one word."""
    return [Column(path, [value_text(row.hyperparameters[path]).replace(" ", "_") for row in rows]) for path in axes]
