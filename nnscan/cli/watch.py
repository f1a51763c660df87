"""`nnscan watch`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.options import ScanArgument, ScanDirectory, about_trial, command, find_scan, launch_on
from nnscan.cli.wording import KEY_DIGITS
from nnscan.trial import Status

if TYPE_CHECKING:
    from nnscan.cli.live import Parts
    from nnscan.cli.parts import Part
    from nnscan.results.folder import ScanFolder
    from nnscan.results.progress import Progress
    from nnscan.scheduled import Scheduled


def watch(
    scan: ScanArgument = "",
    trial: Annotated[
        str,
        typer.Option(
            metavar="KEY", show_default=False, help="Show this trial alone: the start of its key. Ends with it."
        ),
    ] = "",
    scan_dir: ScanDirectory = Path("scans"),
) -> None:
    """Show live how far a scan is that runs elsewhere: on Slurm, in another terminal, on another machine.

    On a terminal also the best configurations of each family, the trials in training with their losses, and what
    failed; of one trial its curves and the accuracy of each class. Reads the scan folder, and asks the scheduler once
    in ten seconds. Ends when nothing is left to run, or with Ctrl-C: that ends the watching alone.

    \b
    Examples:
      nnscan watch
      nnscan watch mnist
      nnscan watch mnist --trial 4f1c09       one trial: curves, accuracy of each class
      nnscan watch mnist 2> progress.log      a line about every ten seconds
    """
    from nnscan.cli.arrow import do_without_pandas

    do_without_pandas()
    folder = find_scan(scan, scan_dir)
    if trial:
        _watch_trial(folder, trial)
    else:
        _watch_scan(folder)


def _watch_scan(folder: ScanFolder) -> None:
    from nnscan import watching
    from nnscan.cli.live import showing
    from nnscan.cli.scheduler import asking

    try:
        with asking(folder) as asked, showing(f"Looking at {folder.path} ...", asked.lines, parts_of(folder)) as show:
            progress, scheduled = watching.watch(folder, show, lambda: asked.scheduled, details=True)
    except KeyboardInterrupt:
        typer.echo(f"The scan goes on. Look again: {command(folder, 'watch')}. End it: {command(folder, 'cancel')}")
        return
    typer.echo("\n".join(over_lines(folder, progress, scheduled)))


def _watch_trial(folder: ScanFolder, text: str) -> None:
    from nnscan import keys, watching
    from nnscan.cli.course import over_line, showing_course
    from nnscan.cli.scheduler import asking

    trial = keys.the_trial(folder, text)
    try:
        with (
            asking(folder) as asked,
            showing_course(f"Looking at trial {trial[:KEY_DIGITS]} ...", varied(folder)) as show,
        ):
            course = watching.watch_trial(folder, trial, show, lambda: asked.scheduled)
    except KeyboardInterrupt:
        typer.echo(f"The trial goes on. Look again: {command(folder, 'watch', '--trial', trial[:KEY_DIGITS])}")
        return
    typer.echo(over_line(course))
    if course.state == Status.FAILED:
        typer.echo(f"Its log: {about_trial(folder, 'logs', trial[:KEY_DIGITS])}")


def varied(folder: ScanFolder) -> list[str]:
    """Return the dotted paths of what varies in any family of a scan."""
    from nnscan.plan import read_axes

    return list(dict.fromkeys(path for axes in read_axes(folder).values() for path in axes))


def parts_of(folder: ScanFolder) -> Parts:
    """Return the function that gives what a terminal shows of a scan beside its progress."""
    from nnscan.cli.highlights import parts

    def shown(progress: Progress, width: int) -> Sequence[Part]:
        return parts(progress.highlights, progress.metric, logs, width) if progress.highlights else ()

    def logs(trial: str) -> str:
        return about_trial(folder, "logs", trial)

    return shown


def over_lines(folder: ScanFolder, progress: Progress, scheduled: Scheduled) -> Iterator[str]:
    """Yield how far a scan is of which nothing is left to run, and what to type next."""
    from nnscan.cli.outcome import counts_text
    from nnscan.cli.scheduler import held_back_lines, scheduler_lines

    yield f"{counts_text(progress)}; nothing of {folder.path} runs or is to start"
    yield from held_back_lines(folder)
    yield from scheduler_lines(scheduled)
    if progress.ended < progress.total:
        yield f"Go on with: {launch_on(folder)}"
    else:
        yield f"Leaderboards: {command(folder, 'summarize')}"
