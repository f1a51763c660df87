"""What the tables of a summary say: words for marks, counts, ties and causes, and the cells of their columns."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnscan.cli.wording import count

if TYPE_CHECKING:
    from nnscan.results.leaderboard import FamilySummary, Incomplete, Leader
    from nnscan.results.summary import Retrained, Summary, Trouble

KEY_DIGITS = 16
"""Of a key, on a terminal; a prefix suffices wherever one is asked for."""

UNKNOWN = "-"


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


def duration(seconds: float) -> str:
    """Return a duration as people say it: "0.4 s", "80 s" becomes "1 m 20 s", "2 h 03 m"."""
    if math.isnan(seconds):
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} m"


def score(value: float) -> str:
    """Return a score with four decimals, or four digits where these would say nothing."""
    if math.isnan(value):
        return UNKNOWN
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


def spread(mean: float, std: float) -> str:
    """Return a mean and its standard deviation, where there is one."""
    return score(mean) if math.isnan(std) else f"{score(mean)} ± {score(std) if std < 1e4 else f'{std:.1e}'}"


def value_text(value: Any) -> str:
    """Return a hyperparameter as one word: a string as itself, all else as in JSON."""
    if value is None:
        return UNKNOWN
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def number(value: float, digits: int = 1) -> str:
    """Return a number with so many decimals."""
    return UNKNOWN if math.isnan(value) else f"{value:.{digits}f}"


def mark(leader: Leader) -> str:
    """Return the sign of a row: "*" of the winner, "=" of those tied with it."""
    return "*" if leader.winner else "=" if leader.tied else ""


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


def tie_lines(family: FamilySummary) -> Iterator[str]:
    """Yield what the marks mean, how many tied ones are not shown, and which is the cheapest."""
    if family.winner is None or family.complete < 2:
        return
    if family.tie_factor is None:
        yield "Nothing is marked as tied: one trial a configuration has no spread to judge by. Use folds or replicates."
        return
    yield (
        f"* wins. = is tied with it: the mean paired difference of n = {family.winner.n} scores is at most"
        f" {family.tie_factor:.2f} of their standard deviations (one-sided corrected resampled t-test, 95 %)."
    )
    shown = sum(leader.tied and not leader.winner for leader in family.leaders)
    if hidden := family.tied - shown:
        yield f"{hidden:,} more {'is' if hidden == 1 else 'are'} tied."
    cheap = family.cheapest
    if cheap and cheap.cost < 1:
        yield (
            f"The cheapest of these, {cheap.configuration[:KEY_DIGITS]} (rank {cheap.rank}), has {cheap.cost:.2g} of"
            " the winner's parameters: nnscan retrain-best --prefer cheapest"
        )


def trouble_lines(trouble: Trouble, rerun: str) -> Iterator[str]:
    """Yield a cause with how often it struck, and the command that runs one of its trials alone."""
    kind = f"{trouble.status} ({trouble.failure})" if trouble.failure else trouble.status
    yield f"{trouble.count:,} {kind}: {trouble.cause or 'no message'}"
    yield f"    {rerun} --cluster inline --trial {trouble.trial[:KEY_DIGITS]}"


def retrained_note(one: Retrained) -> str:
    """Return what the numbers do not say."""
    if one.cause or one.status != "completed":
        return f"{one.status}: {one.cause}"
    return "" if one.winner else "no longer the winner"


def axis_columns(rows: Sequence[Leader | Incomplete], axes: Sequence[str]) -> list[Column]:
    """Return a column an axis, under its dotted path; each value one word."""
    return [Column(path, [value_text(row.hyperparameters[path]).replace(" ", "_") for row in rows]) for path in axes]
