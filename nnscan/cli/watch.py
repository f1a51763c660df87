"""`nnscan watch`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nnscan.cli.options import ScanArgument, ScanDirectory, command, find_scan, launch_on

if TYPE_CHECKING:
    from nnscan.results.folder import ScanFolder
    from nnscan.results.progress import Progress
    from nnscan.scheduled import Scheduled


def watch(scan: ScanArgument = "", scan_dir: ScanDirectory = Path("scans")) -> None:
    """Show live how far a scan is that runs elsewhere: on Slurm, in another terminal, on another machine.

    Reads the scan folder, and asks the scheduler once in ten seconds. Ends when nothing is left to run, or with
    Ctrl-C: that ends the watching alone.

    \b
    Examples:
      nnscan watch
      nnscan watch mnist
      nnscan watch mnist 2> progress.log      a line about every ten seconds
    """
    from nnscan.cli.arrow import do_without_pandas

    do_without_pandas()
    from nnscan import watching
    from nnscan.cli.live import showing
    from nnscan.cli.scheduler import asking

    folder = find_scan(scan, scan_dir)
    try:
        with asking(folder) as asked, showing(f"Looking at {folder.path} ...", asked.lines) as show:
            progress, scheduled = watching.watch(folder, show, lambda: asked.scheduled)
    except KeyboardInterrupt:
        typer.echo(f"The scan goes on. Look again: {command(folder, 'watch')}. End it: {command(folder, 'cancel')}")
        return
    typer.echo("\n".join(over_lines(folder, progress, scheduled)))


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
