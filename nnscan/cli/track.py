"""`nnscan track`, and the tracking beside a launch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.options import Families, ScanArgument, ScanDirectory, TensorBoard, Wandb, command, find_scan
from nnscan.cli.wording import count
from nnscan.errors import Problem, ScanError

if TYPE_CHECKING:
    from nnscan.launch_options import LaunchOptions
    from nnscan.results.folder import ScanFolder
    from nnscan.results.progress import Progress
    from nnscan.running import Decoding
    from nnscan.tracking import Followed, TrackOptions


def track(
    scan: ScanArgument = "",
    tensorboard: TensorBoard = False,
    wandb: Wandb = "",
    to: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", show_default=False, help="Where event files go, instead of the scan's folder."),
    ] = None,
    families: Families = [],  # noqa: B006  (typer reads it, nobody changes it)
    top: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", show_default=False, help="Only trials of the N best configurations of each family."
        ),
    ] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on while the scan runs, wherever it runs; shown as by watch.")
    ] = False,
    scan_dir: ScanDirectory = Path("scans"),
) -> None:
    """Show the epochs of a scan in TensorBoard, or in Weights & Biases: one run a trial.

    Reads what the workers wrote, from any shell that sees the scan folder. What was written before is not
    written again: the same command goes on. `nnscan launch --tensorboard` does the same while it runs.

    \b
    Examples:
      nnscan track --tensorboard
      nnscan track mnist --tensorboard --follow               while it runs
      nnscan track mnist --wandb digits                       to a project of Weights & Biases
      nnscan track mnist --tensorboard --top 20 --to best     trials of the 20 best configurations of each family
    """
    from nnscan.cli.arrow import do_without_pandas

    do_without_pandas()
    from nnscan import tracking
    from nnscan.tracking import TrackOptions

    options = TrackOptions(tensorboard=tensorboard, wandb=wandb, to=to, families=tuple(families), top=top)
    _refuse_unclear(options, follow=follow)
    folder = find_scan(scan, scan_dir)
    if follow:
        _follow(folder, options)
        return
    trials, hints = tracking.track(folder, options)
    typer.echo(f"Tracked {count(trials, 'trial')} of {folder.path}")
    typer.echo("\n".join(hints))


def _refuse_unclear(options: TrackOptions, *, follow: bool) -> None:
    problems = []
    if not options.asks:
        problems.append(Problem("nnscan track", "say where to: --tensorboard or --wandb PROJECT"))
    if options.to and not options.tensorboard:
        problems.append(Problem("--to", "goes with --tensorboard"))
    if options.top and follow:
        problems.append(Problem("--top", "goes without --follow: which are best changes while a scan runs"))
    if problems:
        raise ScanError("options", problems)


def _follow(folder: ScanFolder, options: TrackOptions) -> None:
    from nnscan import tracking, watching
    from nnscan.cli.live import showing
    from nnscan.cli.scheduler import asking
    from nnscan.cli.watch import over_lines

    with tracking.tracked(folder, options) as tracked:
        typer.echo("\n".join(tracked.lines()), err=True)
        try:
            with asking(folder) as asked, showing(f"Looking at {folder.path} ...", asked.lines) as show:
                also = _also(show, tracking.Paced(tracked))
                progress, scheduled = watching.watch(folder, also, lambda: asked.scheduled)
        except KeyboardInterrupt:
            typer.echo("The scan goes on. What was tracked stays; the same command goes on with it.")
            return
        finally:
            tracked.poll()
    typer.echo("\n".join(over_lines(folder, progress, scheduled)))


def _also(show: Callable[[Progress | Decoding], None], track: Callable[[], None]) -> Callable[[Progress], None]:
    def shown(progress: Progress) -> None:
        show(progress)
        track()

    return shown


@contextmanager
def tracked_beside(folder: ScanFolder, options: LaunchOptions, track: TrackOptions) -> Iterator[list[str]]:
    """Track beside the launch in this block, in this process, where that is asked for.

    Gives lines that are there after the block: what to type to look at it. A launch that hands its jobs to Slurm and
    returns has nothing to track yet: then they say how to.
    """
    from nnscan.tracking import followed

    lines: list[str] = []
    if not track.asks:
        yield lines
    elif options.cluster == "slurm" and not options.wait:
        yield lines
        lines.append(follow_line(folder, track))
    else:
        with followed(folder, track) as result:
            yield lines
        lines += _ending(folder, track, result)


def _ending(folder: ScanFolder, track: TrackOptions, result: Followed) -> list[str]:
    if result.error:
        return [f"Tracking ended early: {result.error}", follow_line(folder, track)]
    return result.lines


def follow_line(folder: ScanFolder, track: TrackOptions) -> str:
    """Return how to track a scan that runs elsewhere."""
    words = [*(["--tensorboard"] if track.tensorboard else []), *(["--wandb", track.wandb] if track.wandb else [])]
    return f"Track it while it runs: {command(folder, 'track', *words, '--follow')}"
