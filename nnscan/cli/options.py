"""Arguments and options that several commands share."""

from __future__ import annotations

import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nnscan.results.folder import ScanFolder


class Cluster(StrEnum):
    """Where trials run."""

    LOCAL = "local"
    RAY = "ray"
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
    int, typer.Option(min=0, metavar="N", show_default=False, help="Trials at once. Without it: as many as fit.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait where another launch of this scan is running.")]
Download = Annotated[bool, typer.Option("--download", help="Let torchvision download data that are missing.")]
AcceptChanged = Annotated[
    bool,
    typer.Option("--accept-changed", help="Go on although data or code are not those of the stored results."),
]
Families = Annotated[
    list[str],
    typer.Option("--family", metavar="NAME", show_default=False, help="Only this family. May be given again."),
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
    scans = folder.path.parent
    where = [] if scans == Path("scans") else ["--scan-dir", str(scans)]
    return shlex.join(["nnscan", "launch", str(folder.scan_file), *where])
