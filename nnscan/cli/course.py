"""What a terminal, or a log, shows of one trial as it goes. Pure functions of a `Course` and of the room there is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.text import Text

from nnscan.cli.highlights import axes_texts, to_scale
from nnscan.cli.live import COLOURS, DRAWINGS_A_SECOND, SECONDS_A_LINE
from nnscan.cli.parts import Cells, Part, cut, fitted, rows, wrapped
from nnscan.cli.sparks import bar, span, spark
from nnscan.cli.wording import KEY_DIGITS, clock, count
from nnscan.results.course import Course
from nnscan.results.highlights import Curve
from nnscan.results.metric import best_epoch, smallest_wins
from nnscan.results.schema import leaves
from nnscan.results.wording import duration, score
from nnscan.trial import Kind

CURVES = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
"""Metrics that are drawn, in this order; with a training function whatever it yields."""

CLASS_ACCURACY = "val_class_accuracy"
CLASS_CELLS = 20
"""Of the longest bar of a class."""

BESIDE_CURVES = 46
"""Characters of a line that are not its spark line."""

LINES_BESIDE_PARTS = 3
"""The empty line, the prompt before and the one after."""

NOT_DRAWN = {"learning_rate", "epoch_seconds", "examples_per_second"}

ShowCourse = Callable[[Course], None]


# ------------------------------------------------------------------------------------------------ what is said


def line(course: Course) -> str:
    """Return how a trial goes, in one line of a log."""
    told = [f"{name} {score(course.curve.values(name)[-1])}" for name in curve_names(course.curve)]
    return ", ".join([f"Trial {course.trial[:KEY_DIGITS]}: {course.state}, {_epochs(course)}", *told])


def title(course: Course) -> str:
    """Return which trial it is, and where it is trained."""
    row = course.row
    if not row:
        return f"trial {course.trial[:KEY_DIGITS]}"
    part = f"replicate {row.get('replicate', 0)}"
    if row.get("kind") != Kind.RETRAINING:
        part = f"fold {row.get('fold', 0)}, {part}"
    place = f", on {row['host']} ({row.get('device', '')})" if row.get("host") else ""
    again = f", attempt {row['attempt']}" if row.get("attempt", 1) > 1 else ""
    return f"{_family(course)} trial {course.trial[:KEY_DIGITS]}: {part}{again}{place}".lstrip()


def _family(course: Course) -> str:
    kind = " retraining," if course.row.get("kind") == Kind.RETRAINING else ""
    return f"{course.row.get('family') or ''}{kind}"


def _epochs(course: Course) -> str:
    last = course.curve.epochs[-1] if course.curve.epochs else None
    asked = course.row.get("epochs")
    if last is None:
        return "before its first epoch" if course.state == "running" else "no epochs"
    return f"epoch {last} of {asked}" if asked else f"epoch {last}"


def curve_names(curve: Curve) -> list[str]:
    """Return the metrics of a curve that are drawn: losses and accuracies first, then what else there is."""
    names = dict.fromkeys(name for row in curve.metrics for name in row)
    fixed = {"trial", "configuration", "kind", "fold", "replicate", "epoch", "attempt", "writer"} | NOT_DRAWN
    others = [name for name in names if name not in {*CURVES, *fixed}]
    return [name for name in (*CURVES, *others) if name in names and curve.has(name)]


# ------------------------------------------------------------------------------------------------ what is drawn


def drawing(course: Course, varied: Sequence[str], size: tuple[int, int]) -> Group:
    """Return what a terminal of that width and height shows of a trial.

    Parameters
    ----------
    course : Course
    varied : sequence of str
        Dotted paths of what varies within its family.
    size : pair of int
        Characters and lines.
    """
    width, height = size
    parts = (_title(course, width), _settings(course, varied, width), _curves(course.curve, width))
    more = (_speed(course, width), _classes(course.curve, width), _error(course, width))
    return Group(*fitted([part for part in (*parts, *more) if part], height - LINES_BESIDE_PARTS))


def _title(course: Course, width: int) -> Part:
    state = Text(course.state, style=COLOURS["done" if course.state == "completed" else course.state])
    seconds = f", {duration(course.row['seconds'])}" if "seconds" in course.row else ""
    state.append(f", {_epochs(course)}{seconds}", style="").truncate(width, overflow="ellipsis")
    return Part(entries=[[Text(cut(title(course), width), style="bold"), state]])


def _settings(course: Course, varied: Sequence[str], width: int) -> Part | None:
    values = dict(leaves(course.settings))
    asked = {path: values[path] for path in dict.fromkeys((*varied, *_ALWAYS)) if path in values}
    texts = axes_texts([asked])[0].split(", ") if asked else []
    return _beside(texts, width)


_ALWAYS = ("training.batch_size", "optimizer.learning_rate")


def _beside(texts: Sequence[str], width: int) -> Part | None:
    lines = [[Text(told)] for told in wrapped(texts, width)]
    return Part(entries=lines) if lines else None


def _curves(curve: Curve, width: int) -> Part | None:
    names = curve_names(curve)
    if not names:
        return None
    values = {name: curve.values(name) for name in names}
    drawn = {name: to_scale(name, values[name]) for name in names}
    bests = {name: best_epoch(values[name], smallest_wins(name)) for name in names}
    cells = max(8, width - BESIDE_CURVES)
    tops = [_at(values[name], bests[name]) for name in names]
    head, lines = rows(
        [
            Cells(head="", texts=names),
            Cells(head="", texts=[_drawn(name, drawn, cells) for name in names], style="cyan", drop=1),
            Cells(head="last", texts=[score(values[name][-1]) for name in names], right=True),
            Cells(head="best", texts=tops, right=True, style="green", drop=2),
            Cells(head="epoch", texts=[_at(curve.epochs, bests[name], str) for name in names], right=True, drop=3),
        ],
        width,
    )
    return Part(head=[head], entries=[[line] for line in lines])


def _drawn(name: str, values: Mapping[str, Sequence[float]], cells: int) -> str:
    """Return a spark line; of training and validation on one scale."""
    measured = name.removeprefix("train_").removeprefix("val_")
    alike = [values[other] for other in (f"train_{measured}", f"val_{measured}") if other in values]
    return spark(values[name], cells, span(*alike) if alike else None)


def _at(values: Sequence[Any], index: int | None, told: Callable[[Any], str] = score) -> str:
    return "-" if index is None else told(values[index])


def _speed(course: Course, width: int) -> Part | None:
    last = course.curve.metrics[-1] if course.curve.metrics else {}
    rate, seconds, speed = (last.get(name) for name in ("learning_rate", "epoch_seconds", "examples_per_second"))
    texts = [
        f"learning rate now {rate:.3g}" if rate is not None else "",
        f"{_epoch_time(seconds)} an epoch" if seconds is not None else "",
        f"{speed:,.0f} examples a second" if speed is not None else "",
        *(f"{name} {score(course.row[name])}" for name in ("test_accuracy", "test_loss") if name in course.row),
        *([f"{count(course.row['parameters'], 'parameter')}"] if "parameters" in course.row else []),
    ]
    return _beside([text for text in texts if text], width)


def _epoch_time(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 0.1 else duration(seconds)


def _classes(curve: Curve, width: int) -> Part | None:
    """Return a bar a class, in as many columns as fit."""
    last = next((row[CLASS_ACCURACY] for row in reversed(curve.metrics) if row.get(CLASS_ACCURACY)), None)
    if last is None:
        return None
    digits = len(str(len(last) - 1))
    told = [_class(index, share, digits) for index, share in enumerate(last)]
    columns = max(1, min(3, width // (CLASS_CELLS + digits + 12)))
    lines = math.ceil(len(told) / columns)
    drawn = [Text("   ").join(told[start::lines]) for start in range(lines)]
    head = Text(f"validation accuracy of each class, epoch {curve.epochs[-1]}", style="bold")
    return Part(head=[head], entries=[[line] for line in drawn], more=lambda hidden: f"and {hidden} lines more")


def _class(index: int, share: float | None, digits: int) -> Text:
    share = math.nan if share is None else share
    text = Text(f"{index:>{digits}} ").append(f"{bar(share, CLASS_CELLS):<{CLASS_CELLS}}", style="cyan")
    return text.append(f" {score(share):>6}")


def _error(course: Course, width: int) -> Part | None:
    error = str(course.row.get("error") or "").strip()
    if not error:
        return None
    return Part(
        head=[Text("went wrong", style="bold")], entries=[[Text(cut(error.splitlines()[0], width), style="red")]]
    )


# ------------------------------------------------------------------------------------------------ how it is shown


@contextmanager
def showing_course(waiting: str, varied: Sequence[str]) -> Iterator[ShowCourse]:
    """Give the function that is told how a trial goes: a display that moves, or a line now and then in a log."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        yield CourseLog(lambda text: console.print(text, soft_wrap=True, markup=False))
        return
    from rich.live import Live

    seen: list[Course] = []

    def picture() -> Group | Text:
        return drawing(seen[-1], varied, console.size) if seen else Text(waiting)

    def show(course: Course) -> None:
        seen[:] = [course]

    with Live(get_renderable=picture, console=console, refresh_per_second=DRAWINGS_A_SECOND):
        yield show


class CourseLog:
    """Writes a line at the first look, about every ten seconds where an epoch ended, and when the state changes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._due = 0.0
        self._told = ""
        self._state = ""

    def __call__(self, course: Course) -> None:
        """Write a line where one is due."""
        said = line(course)
        if course.state == self._state and (said == self._told or time.monotonic() < self._due):
            return
        self._due = time.monotonic() + SECONDS_A_LINE
        self._told, self._state = said, course.state
        self._write(f"{time.strftime('%H:%M:%S')}  {said}")


def over_line(course: Course) -> str:
    """Return what became of a trial of which nothing is left to run."""
    best = course.row.get("best_epoch")
    scored = f", score {score(course.row['score'])} at epoch {best}" if course.row.get("score") is not None else ""
    took = f" after {clock(course.row['seconds'])}" if "seconds" in course.row else ""
    return f"Trial {course.trial[:KEY_DIGITS]}: {course.state}{took}, {_epochs(course)}{scored}"
