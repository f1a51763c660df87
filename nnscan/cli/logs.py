"""`nnscan logs`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.options import ScanDirectory, find_scan
from nnscan.cli.wording import KEY_DIGITS, clock, shortest

if TYPE_CHECKING:
    from nnscan.logs import Log, Words
    from nnscan.results.folder import ScanFolder


def logs(
    whose: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL|BUNDLE",
            show_default=False,
            help="The start of a trial's key or of a bundle's name, or a job's number. Without it: all.",
        ),
    ] = "",
    scan: Annotated[
        str,
        typer.Option(
            "--scan", metavar="SCAN", show_default=False, help="Which scan. Without it: the one launched last."
        ),
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what is added, until the trial or bundle has ended.")
    ] = False,
    scan_dir: ScanDirectory = Path("scans"),
) -> None:
    """Print the words of workers: of the one that trained a trial last, or of those that had a bundle.

    Where a trial failed, its traceback comes last. Without an argument: a table of the logs, the latest at the end.

    \b
    Examples:
      nnscan logs
      nnscan logs 4f1c09                     a trial
      nnscan logs 4f1c09 --follow            until it has ended
      nnscan logs 1234_5 --scan mnist        task 5 of job 1234
    """
    from nnscan import logs as words
    from nnscan.scheduled import look

    folder = find_scan(scan, scan_dir)
    if not (whose or follow):
        typer.echo("\n".join(list_lines(folder, words.logs(folder), time.time())))
        return
    subject = words.resolve(folder, whose) if whose else words.Subject()
    found = words.words(folder, subject, look(folder))
    if whose:
        typer.echo("\n".join(about_lines(found)), err=True)
    if follow:
        passed_over = () if whose else found.logs
        _print(words.follow(lambda: words.words(folder, subject, look(folder)), passed_over=passed_over))
        found = words.words(folder, subject, look(folder))
    else:
        _print(words.read(found.logs))
    typer.echo("".join(f"{line}\n" for line in failure_lines(found)), nl=False)


def _print(pieces: Iterable[tuple[Path, str]]) -> None:
    """Print logs as `tail` does: where the file is another than before, its name first. Ctrl-C ends it."""
    before = None
    with suppress(KeyboardInterrupt):
        for path, text in pieces:
            if path != before:
                typer.echo(f"{'' if before is None else chr(10)}==> {shortest(path)} <==")
            before = path
            typer.echo(text, nl=False)


def list_lines(folder: ScanFolder, found: Sequence[Log], now: float) -> Iterator[str]:
    """Yield which logs there are, by bundle: file, size, last change; the latest comes last."""
    bundles = {log.bundle: None for log in reversed(found)}
    paths = max((len(str(log.path.relative_to(folder.path))) for log in found), default=0)
    for bundle in reversed(bundles):
        yield f"bundle {bundle}" if bundle else "workers that run bundle after bundle, and their Ray"
        for log in found:
            if log.bundle == bundle:
                path = str(log.path.relative_to(folder.path))
                yield f"  {path:<{paths}}  {_size(log.size):>9}  {clock(max(0.0, now - log.changed))} ago"
    if not found:
        yield f"{folder.path} has no logs: what ran in the launching process printed there, and jobs have yet to start."


def _size(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{size / 1000:.1f} kB" if size < 1e6 else f"{size / 1e6:.1f} MB"


def about_lines(found: Words) -> Iterator[str]:
    """Yield whose words follow: what became of it, where it was trained, in which bundle."""
    if found.subject.trial:
        yield f"Trial {found.subject.trial[:KEY_DIGITS]}: {_state(found)}{_place(found)}"
    if found.bundle:
        job = f", job {found.job}" if found.job else ""
        yield f"Bundle {found.bundle}{job}"
    if not found.logs:
        yield _without_logs(found)
    elif not sum(log.size for log in found.logs):
        yield f"Nothing was printed: {', '.join(str(shortest(log.path)) for log in found.logs)}"


def _state(found: Words) -> str:
    if found.running:
        return "in training"
    if found.row:
        return str(found.row["status"])
    return "waits for its turn" if found.job or found.bundle else "no worker has begun it"


def _place(found: Words) -> str:
    return f", on {found.host} (process {found.pid})" if found.host else ""


def _without_logs(found: Words) -> str:
    if found.job:
        return "It has no log yet: its job has not started a worker."
    if found.host:
        return "It has no log: its words went to where it was launched (--cluster inline), or the log was removed."
    return "It has no log: nothing of it was begun."


def failure_lines(found: Words) -> Iterator[str]:
    """Yield why a trial failed, its traceback first; nothing of one that did not."""
    if error := found.row.get("error"):
        yield from (found.row.get("traceback") or "").rstrip().splitlines()
        yield f"Failed: {error}"
