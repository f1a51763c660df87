"""A summary as plain text, for a file or a pipe.

Nothing is coloured or cut; a column is one word a row, and which columns there are does not depend on any width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nnscan.cli.sheets import Column, axis_columns, counts_line, family_line, trouble_lines
from nnscan.results.wording import UNKNOWN, mark, number, retrained_note, score, tie_lines, value_text

if TYPE_CHECKING:
    from nnscan.results.leaderboard import FamilySummary, Incomplete, Leader
    from nnscan.results.summary import Retrained, Summary


def lines(summary: Summary, rerun: str) -> Iterator[str]:
    """Yield a summary as plain text: a title and aligned columns for each of its tables."""
    yield counts_line(summary)
    yield f"score: {summary.metric}, {'smallest' if summary.smallest else 'largest'} is best"
    for family in summary.families:
        yield from _family_lines(family)
    if summary.troubles:
        yield from ("", "failed and diverged:")
        yield from (text for trouble in summary.troubles for text in trouble_lines(trouble, rerun))
    if summary.retrained:
        yield from ("", "retrained on the whole training set, tested once:")
        yield from aligned(_retrained_columns(summary.retrained))
        for one in summary.retrained:
            yield from [f"{one.family} {one.configuration}: {retrained_note(one)}"] if retrained_note(one) else []


def _family_lines(family: FamilySummary) -> Iterator[str]:
    yield from ("", family_line(family))
    for board in family.boards:
        if board.leaders:
            yield from ([f"{family.by} {value_text(board.value)}:"] if family.by else [])
            yield from aligned([*_leader_columns(board.leaders), *axis_columns(board.leaders, family.axes)])
    yield from tie_lines(family)
    if family.incomplete:
        yield from ("", f"{family.name}, incomplete, {len(family.incomplete)} of {family.begun}:")
        yield from aligned([*_incomplete_columns(family.incomplete), *axis_columns(family.incomplete, family.axes)])
    if family.marginals:
        yield from ("", f"{family.name}, marginal effects:")
        yield from aligned(marginal_columns(family))


def aligned(columns: Sequence[Column]) -> Iterator[str]:
    """Yield a table line by line, its head first, two spaces between columns."""
    for row in zip(*([column.head, *column.cells] for column in columns), strict=True):
        cells = zip(row, columns, strict=True)
        yield "  ".join(
            text.rjust(column.width) if column.right else text.ljust(column.width) for text, column in cells
        ).rstrip()


def _leader_columns(leaders: Sequence[Leader]) -> list[Column]:
    return [
        Column("rank", [str(leader.rank) for leader in leaders], right=True),
        Column("mark", [mark(leader) or UNKNOWN for leader in leaders]),
        Column("configuration", [leader.configuration for leader in leaders]),
        Column("mean", [score(leader.mean) for leader in leaders], right=True),
        Column("std", [score(leader.std) for leader in leaders], right=True),
        Column("n", [str(leader.n) for leader in leaders], right=True),
        Column("best_epoch", [number(leader.best_epoch) for leader in leaders], right=True),
        Column("seconds", [number(leader.seconds, 2) for leader in leaders], right=True),
        Column("parameters", [_parameters(leader.parameters) for leader in leaders], right=True),
        Column("cost", [number(leader.cost, 2) for leader in leaders], right=True),
    ]


def _parameters(parameters: int | None) -> str:
    return UNKNOWN if parameters is None else str(parameters)


def _incomplete_columns(rows: Sequence[Incomplete]) -> list[Column]:
    states = ("scored", "n", "failed", "diverged", "running", "pending")
    return [
        Column("configuration", [row.configuration for row in rows]),
        Column("mean", [score(row.mean) for row in rows], right=True),
        *(Column(state, [str(getattr(row, state)) for row in rows], right=True) for state in states),
    ]


def marginal_columns(family: FamilySummary) -> list[Column]:
    """Return a row a value of an axis."""
    rows = [(marginal.path, effect) for marginal in family.marginals for effect in marginal.effects]
    return [
        Column("axis", [path for path, _ in rows]),
        Column("value", [value_text(effect.value).replace(" ", "_") for _, effect in rows]),
        Column("mean", [score(effect.mean) for _, effect in rows], right=True),
        Column("std", [score(effect.std) for _, effect in rows], right=True),
        Column("n", [str(effect.n) for _, effect in rows], right=True),
    ]


def _retrained_columns(rows: Sequence[Retrained]) -> list[Column]:
    return [
        Column("family", [row.family for row in rows]),
        Column("configuration", [row.configuration for row in rows]),
        Column("epochs", [str(row.epochs) for row in rows], right=True),
        Column("score", [score(row.validation_mean) for row in rows], right=True),
        Column("std", [score(row.validation_std) for row in rows], right=True),
        Column("test_accuracy", [score(row.test_accuracy) for row in rows], right=True),
        Column("test_std", [score(row.test_accuracy_std) for row in rows], right=True),
        Column("test_n", [str(row.replicates) for row in rows], right=True),
        Column("test_loss", [score(row.test_loss) for row in rows], right=True),
        Column("calibration_error", [score(row.test_calibration_error) for row in rows], right=True),
        Column("seconds", [number(row.seconds, 2) for row in rows], right=True),
        Column("parameters", [_parameters(row.parameters) for row in rows], right=True),
    ]
