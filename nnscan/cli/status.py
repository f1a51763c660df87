"""`nnscan status`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nnscan.cli.options import ScanArgument, ScanDirectory, find_scan

if TYPE_CHECKING:
    from nnscan.results.progress import Progress


def status(scan: ScanArgument = "", scan_dir: ScanDirectory = Path("scans")) -> None:
    """Say how far a scan is: trials done, running, failed and pending, the best of each family so far.

    Reads the scan folder, so it may be asked from any machine that sees it, while the scan runs or later. Of a scan on
    Slurm it says as well which bundles run and where, which wait and why, and which gave up.

    \b
    Examples:
      nnscan status
      nnscan status mnist
      nnscan status scans/mnist
    """
    from nnscan.cli.arrow import do_without_pandas

    do_without_pandas()
    from nnscan.cli.scheduler import held_back_lines, retraining_lines, scheduler_lines
    from nnscan.results.progress import Follower
    from nnscan.scheduled import look
    from nnscan.watching import retrainings

    folder = find_scan(scan, scan_dir)
    progress = Follower(folder).poll()
    typer.echo(f"{folder.path}: {progress.ended} of {progress.total} trials have a result")
    typer.echo("\n".join(status_lines(progress)))  # at once: a controller that is away takes nine seconds to say so
    for line in (*retraining_lines(retrainings(folder)), *held_back_lines(folder), *scheduler_lines(look(folder))):
        typer.echo(line)


def status_lines(progress: Progress) -> list[str]:
    """Return the states of all trials, and a line a family."""
    from nnscan.cli.live import best, states
    from nnscan.cli.wording import KEY_DIGITS, clock

    left = "" if progress.seconds_left is None else f"; about {clock(progress.seconds_left)} left"
    lines = [f"  {', '.join(f'{count} {state}' for state, count in states(progress))}{left}"]
    names = max((len(family.name) for family in progress.families), default=0)
    for family in progress.families:
        ended = f"{family.completed + family.diverged + family.failed} of {family.total}"
        score = f"{best(family, progress.metric)}  {family.configuration[:KEY_DIGITS]}"
        lines.append(f"  {family.name:<{names}}  {ended:>{len(str(progress.total)) * 2 + 4}}  {score}".rstrip())
    return lines
