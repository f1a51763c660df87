"""`nnscan launch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.options import (
    CLUSTERS,
    AcceptChanged,
    Address,
    Cluster,
    DataRoot,
    Download,
    Profile,
    ScanDirectory,
    TensorBoard,
    Wait,
    Wandb,
    Workers,
)

if TYPE_CHECKING:
    from nnscan.launch_options import LaunchOptions
    from nnscan.results.folder import ScanFolder
    from nnscan.scan import Scan
    from nnscan.tracking import TrackOptions


def launch(
    scan: Annotated[
        str,
        typer.Argument(
            metavar="SCAN",
            show_default=False,
            help="A scan file, or the name of one in jobs/. Without it: the digits scan that comes along.",
        ),
    ] = "",
    cluster: Annotated[
        Cluster,
        typer.Option(help=CLUSTERS),
    ] = Cluster.LOCAL,
    address: Address = "",
    profile: Profile = "",
    workers: Workers = 0,
    overrides: Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", show_default=False, help="Replace a value of the scan file."),
    ] = [],  # noqa: B006  (typer reads it, nobody changes it)
    axes: Annotated[
        list[str],
        typer.Option("--grid", metavar="KEY=A,B,...", show_default=False, help="Replace an axis, in every grid."),
    ] = [],  # noqa: B006
    scan_dir: ScanDirectory = Path("scans"),
    data_root: DataRoot = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would run, and for about how long. Needs no data.")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", show_default=False, help="Run at most N trials, then end.")
    ] = 0,
    trial: Annotated[
        str,
        typer.Option(metavar="KEY", show_default=False, help="Run this trial alone, again if it has a result."),
    ] = "",
    fuse: Annotated[
        str,
        typer.Option(
            metavar="auto|off|N",
            help="Train trials of one shape together in each worker: where that is faster, never, or so many.",
        ),
    ] = "auto",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    accept_changed: AcceptChanged = False,
    download: Download = False,
    wait: Wait = False,
    then_retrain: Annotated[
        bool,
        typer.Option(
            "--then-retrain", help="Retrain the winners when all trials have ended; on Slurm in a job after them."
        ),
    ] = False,
    tensorboard: TensorBoard = False,
    wandb: Wandb = "",
) -> None:
    """Train every trial of a scan that has no result yet.

    The same command starts a scan, goes on after Ctrl-C or a kill, and runs what was added to the scan
    file since. Results lie in scans/NAME as Parquet tables.

    \b
    Examples:
      nnscan launch
      nnscan launch jobs/mnist.toml --data-root /data --dry-run
      nnscan launch mnist --set training.epochs=3 --grid optimizer.learning_rate=0.1,0.01
      nnscan launch mnist --cluster inline --trial 4f1c09      one trial, in this process
      nnscan launch mnist --cluster ray --address auto         on a Ray cluster that runs
      nnscan launch mnist --cluster slurm --profile gpu        as jobs; nobody has to stay logged in
      nnscan launch mnist --tensorboard                        then: tensorboard --logdir scans/mnist/tensorboard
    """
    from nnscan.launch_options import LaunchOptions
    from nnscan.results.folder import ScanFolder
    from nnscan.scan import load
    from nnscan.tracking import TrackOptions, check

    asked = load(scan or None, overrides=overrides, axes=axes, data_root=data_root or None)
    folder = ScanFolder(scan_dir / asked.name)
    options = LaunchOptions(
        cluster=cluster.value,
        address=address,
        profile=profile,
        workers=workers,
        limit=limit,
        trial=trial,
        retry_failed=retry_failed,
        accept_changed=accept_changed,
        download=download,
        wait=wait,
        fuse=fuse,
    )
    track = TrackOptions(tensorboard=tensorboard, wandb=wandb)
    check(track, sum(grid.count for grid in asked.grids) * asked.folds * asked.replicates)
    if dry_run:
        _tell_dry_run(asked, folder, options)
    else:
        _launch(asked, folder, options, track, then_retrain=then_retrain)


def _launch(scan: Scan, folder: ScanFolder, options: LaunchOptions, track: TrackOptions, *, then_retrain: bool) -> None:
    from nnscan.allocator import keep_memory
    from nnscan.cli.live import showing_launch
    from nnscan.cli.outcome import tell
    from nnscan.cli.retrain_best import tell_retrained
    from nnscan.cli.track import tracked_beside
    from nnscan.launching import launch
    from nnscan.then_retrain import launch_then_retrain

    if options.cluster == "inline":
        keep_memory()  # this process may train itself
    waiting = f"Starting {scan.name} ..."
    with showing_launch(folder, options, waiting) as show, tracked_beside(folder, options, track) as to_look_at_it:
        if then_retrain:
            outcome, retrained = launch_then_retrain(scan, folder, options, show)
        else:
            outcome, retrained = launch(scan, folder, options, show), None
    tell(outcome, options)
    if retrained:
        tell_retrained(retrained, options)
    for line in to_look_at_it:
        typer.echo(line)
    raise typer.Exit(outcome.exit_code or (retrained.exit_code if retrained else 0))


def _tell_dry_run(scan: Scan, folder: ScanFolder, options: LaunchOptions) -> None:
    from nnscan.cli.estimate import estimate_lines
    from nnscan.estimate import dry_run

    for line in estimate_lines(dry_run(scan, folder, options)):
        typer.echo(line)
