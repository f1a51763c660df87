"""Arguments and options that several commands share."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.wording import shortest

if TYPE_CHECKING:
    from nnscan.results.folder import ScanFolder


CLUSTERS = (
    "local: Ray, started here. ray: a Ray cluster that runs. slurm: as jobs. inline: this process;"
    " with --workers N so many processes of this machine."
)


class Cluster(StrEnum):
    """Where trials run."""

    LOCAL = "local"
    RAY = "ray"
    SLURM = "slurm"
    INLINE = "inline"


ScanArgument = Annotated[
    str,
    typer.Argument(
        metavar="SCAN",
        show_default=False,
        help="A scan folder, the name of a scan, or its scan file. Without it: the scan launched last.",
    ),
]
ScanDirectory = Annotated[
    Path, typer.Option("--scan-dir", metavar="FOLDER", help="Where scan folders lie, one a scan.")
]
DataRoot = Annotated[
    str,
    typer.Option(
        "--data-root",
        metavar="FOLDER",
        show_default=False,
        help="Where data lie; the scan file's `data.root` is taken from here. Without it: the working folder.",
    ),
]
Address = Annotated[
    str,
    typer.Option(
        metavar="HOST:PORT", show_default=False, help="With --cluster ray: of the cluster; `auto` finds one here."
    ),
]
Workers = Annotated[
    int,
    typer.Option(min=0, metavar="N", show_default=False, help="Trials at once. Without it: as many as fit, inline 1."),
]
Profile = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        show_default=False,
        help="With --cluster slurm: partition, time and the like; slurm/NAME.toml, or a file. Without it: default.",
    ),
]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        help="Wait where another launch of this scan is running; on Slurm: for the end of the jobs, shown live.",
    ),
]
Download = Annotated[bool, typer.Option("--download", help="Let torchvision download data that are missing.")]
AcceptChanged = Annotated[
    bool,
    typer.Option("--accept-changed", help="Go on although data or code are not those of the stored results."),
]
Families = Annotated[
    list[str],
    typer.Option("--family", metavar="NAME", show_default=False, help="Only this family. May be given again."),
]

TensorBoard = Annotated[
    bool, typer.Option("--tensorboard", help="Write event files for TensorBoard, into the folder of the scan.")
]
Wandb = Annotated[
    str,
    typer.Option(
        "--wandb",
        metavar="PROJECT",
        show_default=False,
        help="Send epochs to this project of Weights & Biases (an extra: nnscan[wandb]).",
    ),
]


def find_scan(scan: str, scans: Path) -> ScanFolder:
    """Return the folder of the scan that an argument means; say on stderr which it is where none was given."""
    from nnscan.api import scan_folder

    folder = scan_folder(scan or None, scans=scans)
    if not scan:
        typer.echo(f"The scan launched last: {folder.path}", err=True)
    return folder


def launch_again(folder: ScanFolder) -> str:
    """Return the command that launches a scan again, from its own folder."""
    return shlex.join(["nnscan", "launch", str(shortest(folder.scan_file)), *_scan_dir(folder)])


def launch_on(folder: ScanFolder) -> str:
    """Return the command that launches a scan again where it was launched last."""
    from nnscan import launch_folder

    launches = launch_folder.read_all(folder)
    if not launches or launches[-1].cluster == "local":
        return launch_again(folder)
    last = launches[-1]
    options = {"--cluster": last.cluster, "--address": last.address, "--profile": last.profile}
    words = [word for option, value in options.items() if value for word in (option, value)]
    return f"{launch_again(folder)} {shlex.join(words)}"


def command(folder: ScanFolder, *words: str) -> str:
    """Return a command about a scan that lies in `folder`."""
    return shlex.join(["nnscan", *words, folder.path.name, *_scan_dir(folder)])


def about_trial(folder: ScanFolder, command: str, trial: str) -> str:
    """Return a command that takes a trial, and the scan as an option: `nnscan logs KEY --scan NAME`."""
    return shlex.join(["nnscan", command, trial, "--scan", folder.path.name, *_scan_dir(folder)])


def _scan_dir(folder: ScanFolder) -> list[str]:
    scans = shortest(folder.path.parent)
    return [] if scans == Path("scans") else ["--scan-dir", str(scans)]
