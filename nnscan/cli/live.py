"""How far a launch is, while it runs: a display that moves on a terminal, a line now and then elsewhere.

Both go to stderr, so that stdout holds results alone. What they say is made by pure functions of a `Progress`.
"""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from nnscan.cli.wording import KEY_DIGITS, clock
from nnscan.results.progress import FamilyProgress, Progress
from nnscan.running import Decoding, Show

if TYPE_CHECKING:
    from rich.console import Console, Group, RenderableType
    from rich.table import Table
    from rich.text import Text

    from nnscan.cli.parts import Part
    from nnscan.launch_options import LaunchOptions
    from nnscan.results.folder import ScanFolder

DRAWINGS_A_SECOND = 4
SECONDS_A_LINE = 10.0
LINES_BESIDE_PARTS = 5
"""Bar, states, an empty line, the prompt before and the one after."""

COLOURS = {"done": "green", "running": "cyan", "pending": "dim", "failed": "bold red", "diverged": "yellow"}


Lines = Callable[[], Sequence[str]]
"""Returns what is to be shown below a progress, at once."""

Parts = Callable[[Progress, int], "Sequence[Part]"]
"""Returns what a terminal shows below the families, if it has room; takes the terminal's width."""


def no_parts(progress: Progress, width: int) -> Sequence[Part]:  # noqa: ARG001
    """Return nothing to be shown below the families."""
    return ()


@contextmanager
def showing(waiting: str, below: Lines = tuple, parts: Parts = no_parts) -> Iterator[Show]:
    """Give the function that a launch tells its progress to; until it is first called, `waiting` is shown.

    What `below` returns stands below the progress: on Slurm what the scheduler says. What `parts` returns comes last,
    on a terminal.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        with _drawn(console, waiting, below, parts) as show:
            yield show
    else:
        yield Log(lambda text: console.print(text, soft_wrap=True, markup=False), below)


@contextmanager
def showing_launch(folder: ScanFolder, options: LaunchOptions, waiting: str) -> Iterator[Show]:
    """Give the function that a launch tells its progress to; what a scheduler says stands below it."""
    if not (options.cluster == "slurm" and options.wait):
        with showing(waiting) as show:
            yield show
        return
    from nnscan.cli.scheduler import asking

    with asking(folder) as asked, showing(waiting, asked.lines) as show:
        yield show


# ------------------------------------------------------------------------------------------------ what is said


def states(progress: Progress | FamilyProgress) -> Iterator[tuple[str, int]]:
    """Yield each state with its count; failed and diverged only where there are any."""
    yield "done", progress.completed
    yield "running", progress.running
    yield "pending", progress.pending
    if progress.failed:
        yield "failed", progress.failed
    if progress.diverged:
        yield "diverged", progress.diverged


def best(family: FamilyProgress, metric: str) -> str:
    """Return the best score of a family so far, with how many of its trials it stands on while some are missing."""
    if family.best is None:
        return ""
    missing = "" if family.scored == family.n else f" ({family.scored} of {family.n} trials)"
    return f"best {metric} {family.best:.4f}{missing}"


def decoding(event: Decoding) -> str:
    """Return how far the decoding of the data is."""
    return f"Decoding images, once for all scans: {event.images} of {event.total}"


def line(progress: Progress) -> str:
    """Return how far a launch is, in one line of a log."""
    counts = ", ".join(f"{count} {state}" for state, count in states(progress))
    boards = [f"{family.name} {family.best:.4f}" for family in progress.families if family.best is not None]
    scores = f"; best {progress.metric}: {', '.join(boards)}" if boards else ""
    left = "" if progress.seconds_left is None else f"; {clock(progress.seconds_left)} left"
    return f"{clock(progress.seconds)}  {counts} of {progress.total} trials{scores}{left}"


# ------------------------------------------------------------------------------------------------ how it is shown


class Log:
    """Writes a line at the first progress, about every ten seconds, and once more at the end of the trials."""

    def __init__(self, write: Callable[[str], None], below: Lines = tuple) -> None:
        self._write = write
        self._below = below
        self._due = 0.0
        self._decoding_due = 0.0
        self._over = False

    def __call__(self, event: Progress | Decoding) -> None:
        """Write a line where one is due."""
        if isinstance(event, Decoding):
            self._decode(event)
        else:
            self._progress(event)

    def _decode(self, event: Decoding) -> None:
        if time.monotonic() >= self._decoding_due:
            self._decoding_due = time.monotonic() + SECONDS_A_LINE
            self._write(decoding(event))

    def _progress(self, progress: Progress) -> None:
        over = progress.ended == progress.total
        if self._over or (progress.seconds < self._due and not over):
            return
        self._over = over
        self._due = progress.seconds + SECONDS_A_LINE
        for text in (line(progress), *self._below()):
            self._write(text)


@contextmanager
def _drawn(console: Console, waiting: str, below: Lines, parts: Parts) -> Iterator[Show]:
    from rich.live import Live
    from rich.spinner import Spinner

    seen: list[tuple[Progress, float]] = []
    ran = threading.Event()
    spinner = Spinner("dots", waiting)

    def picture() -> RenderableType:
        if not seen:
            return spinner
        progress, when = seen[-1]
        told = [line for text in below() for line in textwrap.wrap(text, console.width, subsequent_indent="  ")]
        starting = not told and not ran.is_set()
        since, shown = time.monotonic() - when, parts(progress, console.width)
        return drawing(progress, console.size, since=since, below=told, starting=starting, parts=shown)

    def show(event: Progress | Decoding) -> None:
        if isinstance(event, Decoding):
            spinner.update(text=decoding(event))
        else:
            seen[:] = [(event, time.monotonic())]
            if event.running:
                ran.set()

    with Live(get_renderable=picture, console=console, refresh_per_second=DRAWINGS_A_SECOND):
        yield show


def drawing(
    progress: Progress,
    size: tuple[int, int] = (80, 25),
    *,
    since: float = 0.0,
    below: Sequence[str] = (),
    starting: bool = False,
    parts: Sequence[Part] = (),
) -> Group:
    """Return what a terminal of that width and height shows, `since` seconds after `progress` was taken.

    Where no worker of a launch has begun yet, `starting`: Ray and torch take 5 to 15 s to load. Of `parts` what there
    is room for.
    """
    from rich.console import Group
    from rich.text import Text

    from nnscan.cli.parts import fitted

    width, height = size
    told = [Text(line, style="dim") for line in below]
    lines = fitted([_families(progress, width), *parts], max(1, height - LINES_BESIDE_PARTS - len(below)))
    return Group(_bar(progress), _states(progress, since, starting=starting), *told, *lines)


def _bar(progress: Progress) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(justify="right")
    share = progress.ended / progress.total if progress.total else 1.0
    bar = ProgressBar(total=max(1, progress.total), completed=progress.ended or int(not progress.total))
    row.add_row(bar, f"{progress.ended} of {progress.total} trials  {share:4.0%}")
    return row


def _states(progress: Progress, since: float, *, starting: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(justify="right")
    waiting = starting and progress.pending and not progress.running
    counts = Text("  ").join(
        Text("workers start" if waiting and state == "running" else f"{state} {number}", style=COLOURS[state])
        for state, number in states(progress)
    )
    row.add_row(counts, _times(progress, since))
    return row


def _times(progress: Progress, since: float) -> Text:
    from rich.text import Text

    text = Text(clock(progress.seconds + since))
    if progress.seconds_left is not None and progress.ended < progress.total:
        text.append(f", {clock(max(0.0, progress.seconds_left - since))} left", style="dim")
    return text


def _families(progress: Progress, width: int) -> Part:
    from nnscan.cli.parts import Cells, Part, rows

    families = progress.families
    columns = [
        Cells(head="", texts=[family.name for family in families]),
        Cells(head="", texts=list(map(_ended, families)), right=True),
        Cells(head="", texts=[best(family, progress.metric) for family in families], drop=1),
        Cells(head="", texts=[family.configuration[:KEY_DIGITS] for family in families], drop=2),
    ]
    lines = rows(columns, width)[1]
    return Part(entries=[[line] for line in lines], more=lambda hidden: f"and {hidden} families more")


def _ended(family: FamilyProgress) -> str:
    return f"{family.completed + family.diverged + family.failed} of {family.total}"
