"""`nnscan cancel`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.options import Families, ScanArgument, ScanDirectory, find_scan, launch_on
from nnscan.cli.wording import KEY_DIGITS, count

if TYPE_CHECKING:
    from nnscan.cancelling import Cancellation
    from nnscan.results.folder import ScanFolder

SHOWN_JOBS = 8


def cancel(
    scan: ScanArgument = "",
    families: Families = [],  # noqa: B006  (typer reads it, nobody changes it)
    trials: Annotated[
        list[str],
        typer.Option("--trial", metavar="KEY", show_default=False, help="Only this trial. May be given again."),
    ] = [],  # noqa: B006
    scan_dir: ScanDirectory = Path("scans"),
) -> None:
    """End a scan that runs or is queued, or leave some of its families and trials out, until the next launch.

    What finished is kept. Jobs of Slurm are ended; workers on this or another machine end after the trial that each
    trains. `nnscan launch` goes on with what is missing.

    \b
    Examples:
      nnscan cancel
      nnscan cancel mnist --family CNN
      nnscan cancel mnist --trial 4f1c09 --trial 77ab
    """
    from nnscan.cancelling import cancel as end

    folder = find_scan(scan, scan_dir)
    done = end(folder, families, trials)
    typer.echo("\n".join(cancel_lines(folder, done)))


def cancel_lines(folder: ScanFolder, done: Cancellation) -> Iterator[str]:
    """Yield what was cancelled, what was done for it, and what to type next."""
    if not done.anything:
        yield f"Nothing of {folder.path} runs or is queued: nothing was cancelled."
        return
    yield from (f"Trial {key[:KEY_DIGITS]} has a result already: it stays." for key in done.ended)
    if not (done.everything or done.families or done.trials):
        return
    yield _what(folder, done)
    yield from _jobs(done)
    yield from _launch(done)
    yield f"What finished is kept. Go on with: {launch_on(folder)}"


def _what(folder: ScanFolder, done: Cancellation) -> str:
    if done.everything:
        return f"Cancelled {folder.path}: no further trial of it starts."
    families = [f"family {name}" for name in done.families]
    trials = [f"trial {key[:KEY_DIGITS]}" for key in done.trials]
    return (
        f"Cancelled {', '.join([*families, *trials])} of {folder.path}: workers pass over them until the next launch."
    )


def _jobs(done: Cancellation) -> Iterator[str]:
    if done.error:
        yield f"Slurm could not be told ({done.error}). Workers end before their next trial all the same; queued jobs"
        yield "end when they start. To have them gone at once, cancel again when it answers."
    elif done.jobs:
        more = [f"{len(done.jobs) - SHOWN_JOBS} more"] if len(done.jobs) > SHOWN_JOBS else []
        numbers = ", ".join([*done.jobs[:SHOWN_JOBS], *more])
        held = f" with {count(done.bundles, 'bundle')}" if done.bundles else ""
        yield f"Slurm was told to end {count(len(done.jobs), 'job')}{held}: {numbers}"


def _launch(done: Cancellation) -> Iterator[str]:
    if not done.held_by:
        return
    if done.everything:
        yield f"Its workers end after the trial that each trains now; Ctrl-C ends it at once: {done.held_by}"
    else:
        yield f"What of it is in training ends at its next step: {done.held_by}"
