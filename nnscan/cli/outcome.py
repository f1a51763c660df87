"""What is said when a launch has ended: how it went, what failed, and what to type next."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from nnscan.cli.commands import tell_error
from nnscan.cli.options import command
from nnscan.cli.wording import KEY_DIGITS, clock, count, shortest

if TYPE_CHECKING:
    from nnscan.launch_options import FailedTrial, LaunchOptions, Outcome, SubmittedJob
    from nnscan.results.folder import ScanFolder
    from nnscan.results.progress import Progress


def tell(outcome: Outcome, options: LaunchOptions, noun: str = "trial") -> None:
    """Print how a launch of trials or retrainings went: the counts on stdout, whatever went wrong on stderr."""
    for text in failure_lines(outcome.failures, outcome.progress.failed):
        typer.echo(text, err=True)
    for problem in filter(None, (outcome.error, outcome.stopped)):
        tell_error(problem)
    goes_on = options.cluster == "slurm" and not outcome.error and (outcome.interrupted or not options.wait)
    lines = going_on_lines(outcome, noun) if goes_on else ending_lines(outcome, this_command(), noun)
    typer.echo("\n".join(lines))


def this_command() -> str:
    """Return the command that this process was started with, ready to be typed again."""
    program = "nnscan" if Path(sys.argv[0]).name == "nnscan" else "python -m nnscan"
    return f"{program} {shlex.join(sys.argv[1:])}"


def ending_lines(outcome: Outcome, again: str, noun: str = "trial") -> Iterator[str]:
    """Yield what became of the trials, where they lie, and what to type next."""
    progress = outcome.progress
    ran = outcome.launched or outcome.elsewhere
    did = f"after {clock(outcome.seconds)}" if ran else "already; nothing was left to do"
    yield f"{counts_text(progress, noun)} {did}. Results: {shortest(outcome.folder.path)}"
    if outcome.interrupted:
        yield f"Interrupted; what finished is kept. Go on with: {again}"
    elif outcome.error or outcome.stopped:
        yield f"What finished is kept. Go on with: {again}"
    elif progress.pending:
        yield f"Go on with: {again}"
    yield from _left_failed(outcome)


def going_on_lines(outcome: Outcome, noun: str = "trial") -> Iterator[str]:
    """Yield which jobs were submitted, how far all is, and how to follow them: nobody has to stay logged in."""
    if outcome.submitted:
        yield from (f"Submitted {_job(job, noun)}" for job in outcome.submitted.jobs)
        yield from [f"Note: {outcome.submitted.note}"] if outcome.submitted.note else []
        if outcome.submitted.retrain_job:
            yield f"Submitted job {outcome.submitted.retrain_job}: retrains the winners when the others have ended"
    if outcome.elsewhere:
        yield f"{count(outcome.elsewhere, noun)} left to jobs of earlier launches"
    yield f"{counts_text(outcome.progress, noun)}. Results: {shortest(outcome.folder.path)}"
    yield from _left_failed(outcome)
    if outcome.submitted or outcome.elsewhere:
        yield "The jobs go on without this shell. What to type next:"
        yield from next_lines(outcome.folder)


def _job(job: SubmittedJob, noun: str) -> str:
    array = (
        f"array {job.job}: {count(job.bundles, 'bundle')} of about"
        if job.bundles > 1
        else f"job {job.job}: 1 bundle of"
    )
    partition = f", partition {job.partition}" if job.partition else ""
    return f"{array} {count(round(job.trials / job.bundles), noun)}{partition}, {clock(60 * job.minutes)}"


def next_lines(folder: ScanFolder) -> Iterator[str]:
    """Yield the commands about a scan that runs elsewhere, each with what it does."""
    commands = {
        command(folder, "watch"): "live, until the end",
        command(folder, "status"): "how far it is, once",
        command(folder, "logs", "--scan"): "the words of its workers",
        command(folder, "cancel"): "end it; what finished is kept",
        command(folder, "summarize"): "leaderboards, of what has finished",
    }
    width = max(map(len, commands))
    yield from (f"  {typed:<{width}}  {does}" for typed, does in commands.items())


def _left_failed(outcome: Outcome) -> Iterator[str]:
    if outcome.progress.failed and not outcome.failures:
        yield "Failed trials stay failed until a launch with --retry-failed; nnscan summarize lists their causes."


def counts_text(progress: Progress, noun: str = "trial") -> str:
    """Return what became of trials of which none runs any more."""
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
