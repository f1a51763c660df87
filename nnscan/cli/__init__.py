"""The commands of `nnscan`. They print and ask; what they do stands in `nnscan.api` and below.

Nothing here imports torch, ray, pyarrow or rich until a command needs it: `nnscan --help` is there at once.
"""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from nnscan.cli import (
    cancel,
    doctor,
    evaluate,
    explain,
    launch,
    logs,
    predict,
    report,
    retrain_best,
    samples,
    status,
    summarize,
    track,
    watch,
)
from nnscan.cli.commands import Commands
from nnscan.version import __version__

app = typer.Typer(
    name="nnscan",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain text: quicker, and the same on a terminal and in a pipe
    pretty_exceptions_enable=False,  # an exception nobody meant to raise is a bug: show it as Python does
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nnscan {__version__}")
        raise typer.Exit


@app.callback()
def nnscan(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train every point of a neural-network grid, keep every result, retrain the winners.

    A scan file (TOML) says which data, which networks and which hyperparameters. Whatever was trained
    stays trained: the same command starts a scan, resumes it after a kill, and extends it.

    \b
    Examples:
      nnscan launch                      the digits scan, on this machine: no download, no set-up
      nnscan launch jobs/mnist.toml      a scan file of your own
      nnscan launch mnist --cluster slurm; nnscan watch
      nnscan summarize                   who won, and how sure that is
      nnscan retrain-best                train the winners on all training data, test them once
      nnscan evaluate scans/digits/models/CNN
      nnscan report                      every table and figure of the scan, in one page
      nnscan predict scans/digits/models/CNN image.png

    \b
    Exit codes: 0 all is well; 1 some trials failed or diverged, or the back-end died; 2 the scan file,
    an option or the environment is wrong, nothing was started; 130 interrupted. What finished is kept.
    """


app.command()(launch.launch)
app.command()(status.status)
app.command()(watch.watch)
app.command()(track.track)
app.command()(logs.logs)
app.command()(cancel.cancel)
app.command()(summarize.summarize)
app.command()(retrain_best.retrain_best)
app.command()(evaluate.evaluate)
app.command()(report.report)
app.command()(predict.predict)
app.command()(explain.explain)
app.command()(samples.samples)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command that the process was started with."""
    try:
        app()
    finally:
        gc.freeze()  # the process ends: to look for garbage among torch's objects would take it another second
