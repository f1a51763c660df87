"""A summary on a terminal: tables that fit its width. Where the output is a file or a pipe it is plain text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from nnscan.cli import plain
from nnscan.cli.sheets import Column, axis_columns, counts_line, family_line, trouble_lines
from nnscan.cli.sparks import bar
from nnscan.results.wording import (
    KEY_DIGITS,
    UNKNOWN,
    duration,
    mark,
    number,
    once,
    retrained_note,
    score,
    short_names,
    spread,
    tested,
    tie_lines,
    value_text,
)

if TYPE_CHECKING:
    from nnscan.results.leaderboard import Board, FamilySummary, Incomplete, Leader
    from nnscan.results.summary import Retrained, Summary

BAR_CELLS = 12


class Command(Text):
    """A line to be copied into a shell: never broken."""


def print_summary(summary: Summary, *, rerun: str, console: Console | None = None) -> None:
    """Print a summary to stdout, or to `console`.

    Parameters
    ----------
    rerun : str
        The command that launches the scan, to which `--cluster inline --trial KEY` is put.
    """
    console = console or Console(highlight=False)
    if console.is_terminal:
        for part in drawn(summary, rerun, console.width):
            console.print(part, soft_wrap=isinstance(part, Command))
    else:
        for line in plain.lines(summary, rerun):
            console.out(line, highlight=False)


def drawn(summary: Summary, rerun: str, width: int) -> Iterator[RenderableType]:
    """Yield what a terminal of `width` characters shows of a summary."""
    yield Text(counts_line(summary), style="bold")
    for family in summary.families:
        yield from _drawn_family(family, summary, width)
    if summary.troubles:
        yield Text("\nFailed and diverged", style="bold red")
        for trouble in summary.troubles:
            cause, command = trouble_lines(trouble, rerun)
            yield Text(cause)
            yield Command(command, style="dim")
    if summary.retrained:
        yield Text("\nRetrained on the whole training set, tested once", style="bold")
        yield from fitted(_drawn_retrained(summary.retrained, summary.metric), [], width)
        notes = ((f"{one.family} {one.configuration[:KEY_DIGITS]}", retrained_note(one)) for one in summary.retrained)
        yield from (Text(f"{which}: {note}", style="yellow") for which, note in notes if note)


def _drawn_family(family: FamilySummary, summary: Summary, width: int) -> Iterator[RenderableType]:
    yield Text(f"\n{family_line(family)}", style="bold")
    for board in family.boards:
        if board.leaders:
            yield from _drawn_board(board, family, summary.metric, width)
    yield from (Text(line, style="dim") for line in tie_lines(family))
    if family.incomplete:
        yield Text("\nIncomplete: these cannot win", style="bold")
        columns = _drawn_incomplete(family.incomplete, summary.metric)
        yield from fitted(columns, _short(family.incomplete, family), width)
        if family.begun > len(family.incomplete):
            yield Text(f"and {family.begun - len(family.incomplete):,} more", style="dim")
    if family.marginals:
        yield Text("\nMarginal effects: mean score of the configurations that share a value", style="bold")
        yield _table(_drawn_marginals(family, summary.smallest))


def _drawn_board(board: Board, family: FamilySummary, metric: str, width: int) -> Iterator[RenderableType]:
    if family.by:
        yield Text(f"{family.by} {value_text(board.value)}", style="italic")
    styles = ["bold green" if leader.winner else "" for leader in board.leaders]
    yield from fitted(_drawn_leaders(board.leaders, metric), _short(board.leaders, family), width, styles)


def _short(rows: Sequence[Leader | Incomplete], family: FamilySummary) -> list[Column]:
    """A column an axis, under a short name that breaks at underscores where its values are shorter."""
    names = short_names(family.axes)
    return [_narrowed(Column(names[axis.head], axis.cells)) for axis in axis_columns(rows, family.axes)]


def _narrowed(column: Column) -> Column:
    """The same column, its head broken into lines where it is wider than the values."""
    values = max(map(len, column.cells), default=0)
    head, line = "", ""
    for word in column.head.replace("_", "_ ").replace(".", ". ").split():
        if line and len(line + word) > max(values, 8):
            head, line = f"{head}{line}\n", word
        else:
            line += word
    return Column(head + line, column.cells, column.right)


def fitted(
    columns: Sequence[Column], axes: Sequence[Column], width: int, styles: Sequence[str] = ()
) -> Iterator[RenderableType]:
    """Yield one table where the terminal takes it, else several below each other that begin with the same column."""
    if _width([*columns, *axes]) <= width:
        yield _table([*columns, *axes], styles)
        return
    first, *others = columns
    for part in (others, axes):
        for group in _groups(part, width - first.width - 2):
            yield _table([first, *group], styles)


def _groups(columns: Sequence[Column], width: int) -> Iterator[list[Column]]:
    """Yield the columns in groups that are no wider than `width`; of one column at least."""
    group: list[Column] = []
    for column in columns:
        if group and _width([*group, column]) > width:
            yield group
            group = []
        group.append(column)
    if group:
        yield group


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + 2 * (len(columns) - 1)


def _table(columns: Sequence[Column], styles: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="underline")
    for column in columns:
        side: JustifyMethod = "right" if column.right else "left"
        table.add_column(Text(column.head), justify=side, vertical="bottom", overflow="fold")
    for index, row in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*map(Text, row), style=styles[index] if styles else None)  # as Text: rich reads markup in a str
    return table


def _drawn_leaders(leaders: Sequence[Leader], metric: str) -> list[Column]:
    return [
        Column("#", [f"{leader.rank} {mark(leader) or ' '}" for leader in leaders], right=True),
        Column(metric, [spread(leader.mean, leader.std) for leader in leaders]),
        Column("n", [str(leader.n) for leader in leaders], right=True),
        Column("epoch", [number(leader.best_epoch) for leader in leaders], right=True),
        Column("time", [duration(leader.seconds) for leader in leaders], right=True),
        Column("parameters", [_grouped(leader.parameters) for leader in leaders], right=True),
        Column("configuration", [leader.configuration[:KEY_DIGITS] for leader in leaders]),
    ]


def _grouped(parameters: int | None) -> str:
    return UNKNOWN if parameters is None else f"{parameters:,}"


def _drawn_incomplete(rows: Sequence[Incomplete], metric: str) -> list[Column]:
    return [
        Column("configuration", [row.configuration[:KEY_DIGITS] for row in rows]),
        Column(metric, [score(row.mean) for row in rows], right=True),
        Column("scored", [f"{row.scored} of {row.n}" for row in rows], right=True),
        Column("missing", [row.reason for row in rows]),
    ]


def _drawn_marginals(family: FamilySummary, smallest: bool) -> list[Column]:
    cells = {column.head: column.cells for column in plain.marginal_columns(family)}
    means = [effect.mean for marginal in family.marginals for effect in marginal.effects]
    return [
        Column("axis", once(cells["axis"])),
        Column("value", cells["value"]),
        Column("mean", cells["mean"], right=True),
        Column("std", cells["std"], right=True),
        Column("n", cells["n"], right=True),
        Column("longer is better", bars([-mean for mean in means] if smallest else means)),
    ]


def bars(values: Sequence[float]) -> list[str]:
    """Return a bar for each value: none for the least, `BAR_CELLS` long for the greatest."""
    low, high = min(values), max(values)
    return [bar((value - low) / (high - low) if high > low else 0.0, BAR_CELLS) for value in values]


def _drawn_retrained(rows: Sequence[Retrained], metric: str) -> list[Column]:
    return [
        Column("family", [row.family for row in rows]),
        Column("test\naccuracy", [tested(row) for row in rows], right=True),
        Column("test\nloss", [score(row.test_loss) for row in rows], right=True),
        Column("calibration\nerror", [score(row.test_calibration_error) for row in rows], right=True),
        Column(metric, [spread(row.validation_mean, row.validation_std) for row in rows]),
        Column("epochs", [str(row.epochs) for row in rows], right=True),
        Column("time", [duration(row.seconds) for row in rows], right=True),
        Column("configuration", [row.configuration[:KEY_DIGITS] for row in rows]),
    ]
