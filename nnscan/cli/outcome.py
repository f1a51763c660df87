"""What is said when a launch has ended: how it went, what failed, and what to type next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nnscan.cli.commands import tell_error
from nnscan.cli.wording import KEY_DIGITS, clock, count, shortest

if TYPE_CHECKING:
    from nnscan.launch_options import FailedTrial, Outcome
    from nnscan.results.progress import Progress


def tell(outcome: Outcome, noun: str = "trial") -> None:
    """Print how a launch of trials or retrainings went: the counts on stdout, whatever went wrong on stderr."""
    for text in failure_lines(outcome.failures, outcome.progress.failed):
        typer.echo(text, err=True)
    for problem in filter(None, (outcome.error, outcome.stopped)):
        tell_error(problem)
    typer.echo("\n".join(ending_lines(outcome, this_command(), noun)))


def this_command() -> str:
    """Return the command that this process was started with, ready to be typed again."""
    program = "nnscan" if Path(sys.argv[0]).name == "nnscan" else "python -m nnscan"
    return f"{program} {shlex.join(sys.argv[1:])}"


def ending_lines(outcome: Outcome, command: str, noun: str = "trial") -> Iterator[str]:
    """Yield what became of the trials, where they lie, and what to type next."""
    progress = outcome.progress
    did = f"after {clock(outcome.seconds)}" if outcome.launched else "already; nothing was left to do"
    yield f"{_counts(progress, noun)} {did}. Results: {shortest(outcome.folder.path)}"
    if outcome.interrupted:
        yield f"Interrupted; what finished is kept. Go on with: {command}"
    elif outcome.error or outcome.stopped:
        yield f"What finished is kept. Go on with: {command}"
    elif progress.pending:
        yield f"Go on with: {command}"
    if progress.failed and not outcome.failures:
        yield "Failed trials stay failed until a launch with --retry-failed; nnscan summarize lists their causes."


def _counts(progress: Progress, noun: str) -> str:
    states = {
        "completed": progress.completed,
        "diverged": progress.diverged,
        "failed": progress.failed,
        "pending": progress.pending + progress.running,
    }
    said = ", ".join(f"{number} {state}" for state, number in states.items() if number)
    return f"{count(progress.total, noun)}: {said or 'none'}"


def failure_lines(failures: Sequence[FailedTrial], failed: int) -> Iterator[str]:
    """Yield the first failures with the command that reruns each alone; a traceback that several share, once."""
    shown: set[str] = set()
    for failure in failures:
        yield f"Failed: trial {failure.key[:KEY_DIGITS]}: {failure.error}"
        if failure.traceback and failure.traceback not in shown:
            yield from (f"    {text}" for text in failure.traceback.rstrip().splitlines())
        shown.add(failure.traceback)
        yield f"    Run it alone: {failure.command}"
    if failed > len(failures) > 0:
        yield f"{failed - len(failures)} more failed; nnscan summarize lists the causes."
