"""The parts of a live display that tell who leads, what is in training, and what went wrong.

Pure functions of `nnscan.results.highlights.Highlights` and of the width of a terminal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

from nnscan.cli.parts import Cells, Part, cut, rows
from nnscan.cli.sparks import span, spark
from nnscan.cli.wording import KEY_DIGITS, count
from nnscan.results.highlights import Curve, Highlights, InTraining, Leader, Mishap
from nnscan.results.wording import once, score, short_names, value_text
from nnscan.trial import Kind, Status

SPARK_CELLS = 12
WIDE_SPARK_CELLS = 24
WIDE = 120
"""Characters of a terminal from which on spark lines are longer."""
BOTH_LOSSES = 96
"""Characters from which on there is room for both, so that they share a scale."""

LogsCommand = Callable[[str], str]
"""Returns the command that shows the log of a trial, by the start of its key."""


def parts(highlights: Highlights, metric: str, logs: LogsCommand, width: int) -> list[Part]:
    """Return the parts that there is something to show of, in the order of their weight."""
    made = (
        _leaders(highlights.leaders, metric, width) if highlights.leaders else None,
        _running(highlights.running, metric, width) if highlights.running else None,
        _mishaps(highlights.mishaps, logs, width) if highlights.mishaps else None,
    )
    return [part for part in made if part]


def _leaders(leaders: Sequence[Leader], metric: str, width: int) -> Part:
    columns = [
        Cells(head="best", texts=once([leader.family for leader in leaders])),
        Cells(head=metric, texts=[score(leader.mean) for leader in leaders], right=True, style="green"),
        Cells(head="of", texts=list(map(_scored, leaders)), drop=6),
        Cells(head="epoch", texts=[_epoch(leader.epoch) for leader in leaders], right=True, drop=3),
        Cells(head="key", texts=[leader.configuration[:KEY_DIGITS] for leader in leaders], style="dim"),
        *spark_columns([leader.curve for leader in leaders], metric, width),
        Cells(head="", texts=axes_texts([leader.axes for leader in leaders]), drop=1, takes_rest=True),
    ]
    head, lines = rows(columns, width)
    places = _by_rank(leaders)
    return Part(head=[head], entries=[[lines[place]] for place in places], places=places)


def _by_rank(leaders: Sequence[Leader]) -> list[int]:
    """Return the places of all that lead a family, then of all that come second, and so on."""
    families = [leader.family for leader in leaders]
    return sorted(range(len(leaders)), key=lambda place: families[:place].count(families[place]))


def _scored(leader: Leader) -> str:
    return count(leader.n, "trial") if leader.scored == leader.n else f"{leader.scored} of {count(leader.n, 'trial')}"


def _epoch(epoch: float) -> str:
    return "" if math.isnan(epoch) else f"{epoch:.1f}".removesuffix(".0")


def _running(running: Sequence[InTraining], metric: str, width: int) -> Part:
    columns = [
        Cells(head="in training", texts=[_name(one) for one in running]),
        Cells(head="epoch", texts=[_progress(one) for one in running], right=True, style="cyan"),
        Cells(head=metric, texts=[_last(one.curve, metric) for one in running], right=True, drop=4),
        Cells(head="key", texts=[one.trial[:KEY_DIGITS] for one in running], style="dim"),
        *spark_columns([one.curve for one in running], metric, width),
        Cells(head="", texts=axes_texts([one.axes for one in running]), drop=1, takes_rest=True),
    ]
    head, lines = rows(columns, width)
    return Part(
        head=[head], entries=[[line] for line in lines], more=lambda hidden: f"and {count(hidden, 'trial')} more"
    )


def _name(one: InTraining) -> str:
    if one.kind == Kind.RETRAINING:
        return f"{one.family} retraining"
    part = f" fold {one.fold}" + (f".{one.replicate}" if one.replicate else "")
    return f"{one.family}{part}" + (f" attempt {one.attempt}" if one.attempt > 1 else "")


def _progress(one: InTraining) -> str:
    last = one.curve.epochs[-1] if one.curve.epochs else "-"
    return f"{last} of {one.epochs}" if one.epochs else str(last)


def _last(curve: Curve, metric: str) -> str:
    return score(curve.values(metric)[-1]) if curve.metrics else "-"


def _mishaps(mishaps: Sequence[Mishap], logs: LogsCommand, width: int) -> Part:
    alike: dict[tuple[str, ...], list[Mishap]] = {}
    for mishap in mishaps:
        alike.setdefault((mishap.family, mishap.status, mishap.failure, mishap.error), []).append(mishap)
    return Part(
        head=[Text("went wrong last", style="bold")],
        entries=[_mishap(few[0], len(few), logs, width) for few in alike.values()],
        more=lambda hidden: f"and {hidden} other causes: nnscan summarize",
    )


def _mishap(mishap: Mishap, times: int, logs: LogsCommand, width: int) -> list[Text]:
    kind = f"{mishap.status} ({mishap.failure})" if mishap.failure else mishap.status
    error = (mishap.error.strip().splitlines() or ["no message"])[0]
    told = f"{mishap.family} {kind}{f', {times} trials' if times > 1 else ''}: {error}".lstrip()
    line = Text(cut(told, width))
    line.highlight_words([kind], style="yellow" if mishap.status == Status.DIVERGED else "red")
    return [line, Text(cut(f"    {logs(mishap.trial[:KEY_DIGITS])}", width), style="dim")]


# ---- what several parts show ----


def spark_columns(curves: Sequence[Curve], metric: str, width: int) -> list[Cells]:
    """Return spark lines of the losses, on one logarithmic scale a row; without a loss, of the scan's metric."""
    losses = [name for name in ("train_loss", "val_loss") if any(curve.has(name) for curve in curves)]
    names = (losses if width >= BOTH_LOSSES else losses[-1:]) or [metric]
    cells = WIDE_SPARK_CELLS if width >= WIDE else SPARK_CELLS
    told = [[to_scale(name, curve.values(name)) for name in names] for curve in curves]
    drawn = [[spark(series, cells, span(*row)) for series in row] for row in told]
    return [
        Cells(
            head=name.replace("_", " "),
            texts=[row[place].ljust(cells) for row in drawn],
            style="cyan",
            drop=2 if place == len(names) - 1 else 5,
        )
        for place, name in enumerate(names)
    ]


def to_scale(name: str, values: Sequence[float]) -> list[float]:
    """Return a loss as its logarithm: the first epochs would else leave no height for what comes later."""
    if not name.endswith("loss"):
        return list(values)
    return [math.log(value) if value > 0 and math.isfinite(value) else math.nan for value in values]


def axes_texts(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what varies, a text a row, under short names: "width 64, learning_rate 0.1"."""
    rows = list(rows)
    names = short_names(list(dict.fromkeys(path for row in rows for path in row)))
    return [", ".join(f"{names[path]} {value_text(value)}" for path, value in row.items()) for row in rows]
