"""The leaderboards: a table a family, which a reader sorts and filters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnscan.report.markup import Html, element, joined
from nnscan.report.material import Material
from nnscan.report.sections.section import Section
from nnscan.report.testing import test_scores
from nnscan.results.leaderboard import FamilySummary, Incomplete, Leader
from nnscan.results.wording import (
    KEY_DIGITS,
    UNKNOWN,
    configurations_have,
    deviation,
    duration,
    number,
    rounded_text,
    score,
    short_names,
    tie_lines,
    value_text,
)

ROWS = 2000
"""Of a leaderboard in the page: a browser sorts so many at once; `nnscan summarize` has them all."""


FEW = 4
"""So many rows need no filter."""


@dataclass(frozen=True)
class Cell:
    """What stands in a cell, and what it is sorted by."""

    text: str
    value: float | str


def section(material: Material) -> Section:
    """Return the leaderboards of all families."""
    parts = [_family(material, family) for family in material.families]
    return Section(anchor="leaderboard", title="Leaderboard", parts=tuple(parts))


def _family(material: Material, family: FamilySummary) -> Html:
    parts = [element("h3", family.name)]
    if family.leaders:
        parts += [_filter(family)] if len(family.leaders) > FEW else []
        parts += [_board(material, family)]
        parts += [element("p", line, class_="note") for line in _notes(family)]
    else:
        parts.append(element("p", "No configuration has a score in every trial yet, so there is no winner."))
    if family.incomplete:
        parts.append(_incomplete(family, material.summary.metric))
    if family.untouched:
        parts.append(element("p", f"{configurations_have(family.untouched)} not begun.", class_="note"))
    return element("div", joined(parts), class_="family")


def _filter(family: FamilySummary) -> Html:
    shown = min(len(family.leaders), ROWS)
    field = element(
        "input",
        type="search",
        placeholder="filter: tied  width=64  rate<0.01",
        aria_label=f"Filter the configurations of {family.name}",
    )
    count = f"{shown:,} of {shown:,} configurations"
    return element("div", field, element("span", count, class_="count", aria_live="polite"), class_="filter")


def _board(material: Material, family: FamilySummary) -> Html:
    names = short_names(family.axes)
    scores, costs = _heads(material.summary.metric)
    heads = [*scores, *((names[path], path) for path in family.axes), *costs]
    rows = [_row(material, family, leader) for leader in family.leaders[:ROWS]]
    body = element("tbody", joined(rows))
    table = element("table", element("thead", element("tr", *(_head(*head) for head in heads))), body, class_="board")
    return element("div", table, class_="scroll tall")


Heads = list[tuple[str, str]]
"""Text of a column's head, and the name that it is filtered by."""


def _heads(metric: str) -> tuple[Heads, Heads]:
    """What stands before the axes, and what behind."""
    scores = [("#", ""), (metric, metric), ("± std", "std"), ("n", "n"), ("test", "test")]
    costs = [("epoch", "epoch"), ("time", "seconds"), ("parameters", "parameters"), ("cost", "cost")]
    return scores, [*costs, ("configuration", "key")]


def _head(text: str, name: str) -> Html:
    """A head, which may break after an underscore: names are longer than values."""
    pieces = [piece for part in text.split("_") for piece in (part, Html("_<wbr>"))][:-1]
    return element("th", element("button", *pieces, type="button", title=name or "rank"), scope="col", data_name=name)


def _row(material: Material, family: FamilySummary, leader: Leader) -> Html:
    values = (_value(leader.hyperparameters[path]) for path in family.axes)
    cells = [*_scores(material, leader), *values, *_costs(leader)]
    style = "winner" if leader.winner else "tied" if leader.tied else False
    told = (
        element("td", cell.text, data_value=cell.value, class_="number" if isinstance(cell.value, float) else False)
        for cell in cells
    )
    return element("tr", *told, class_=style)


def _scores(material: Material, leader: Leader) -> Iterator[Cell]:
    mark = " ★ wins" if leader.winner else " = tied" if leader.tied else ""
    tested = test_scores(material, leader.configuration)
    yield Cell(f"{leader.rank}{mark}", float(leader.rank))
    yield Cell(score(leader.mean), leader.mean)
    yield Cell(deviation(leader.mean, leader.std), leader.std)
    yield Cell(f"{leader.n}", float(leader.n))
    yield Cell(tested.accuracy, tested.mean_accuracy)


def _costs(leader: Leader) -> Iterator[Cell]:
    parameters = UNKNOWN if leader.parameters is None else f"{leader.parameters:,}"
    yield Cell(number(leader.best_epoch), leader.best_epoch)
    yield Cell(duration(leader.seconds), leader.seconds)
    yield Cell(parameters, math.nan if leader.parameters is None else float(leader.parameters))
    yield Cell(UNKNOWN if math.isnan(leader.cost) else f"{leader.cost:.2g}×", leader.cost)
    yield Cell(leader.configuration[:KEY_DIGITS], leader.configuration)


def _value(value: Any) -> Cell:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Cell(rounded_text(value), float(value) if is_number else value_text(value))


def _notes(family: FamilySummary) -> Iterator[str]:
    if len(family.leaders) > ROWS:
        yield f"The best {ROWS:,} of {len(family.leaders):,}; nnscan summarize --format csv has them all."
    yield from tie_lines(family, "★")


def _incomplete(family: FamilySummary, metric: str) -> Html:
    rows = family.incomplete[:ROWS]
    names = short_names(family.axes)
    heads = ("configuration", metric, "scored", "missing", *(names[path] for path in family.axes))
    head = element("tr", *(element("th", text, scope="col") for text in heads))
    body = element("tbody", joined(_incomplete_row(row, family.axes) for row in rows))
    title = f"{family.begun:,} incomplete: these cannot win"
    table = element("div", element("table", element("thead", head), body), class_="scroll tall")
    return element("details", element("summary", title), table)


def _incomplete_row(row: Incomplete, axes: Sequence[str]) -> Html:
    texts = (row.configuration[:KEY_DIGITS], score(row.mean), f"{row.scored} of {row.n}", row.reason)
    values = (rounded_text(row.hyperparameters[path]) for path in axes)
    return element("tr", *(element("td", text) for text in (*texts, *values)))
