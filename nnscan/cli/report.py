"""`nnscan report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnscan.cli.options import ScanArgument, ScanDirectory, find_scan, launch_again
from nnscan.cli.wording import count, shortest


def report(
    scan: ScanArgument = "",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="The page. Without it: report.html in the scan folder."),
    ] = None,
    figures: Annotated[
        bool, typer.Option("--figures", help="Write each figure as PNG and SVG, too: into figures in the scan folder.")
    ] = False,
    figures_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", show_default=False, help="The same, into this folder.")
    ] = None,
    scan_dir: ScanDirectory = Path("scans"),
) -> None:
    """Write every table and figure of a scan into one page.

    Leaderboards that sort and filter, learning curves, what each axis does, the grid as a whole; of
    retrained winners confusions, calibration and pictures; and what failed. The page is one file that
    asks no network for anything: mail it, copy it, print it. Works while the scan runs, of what there is.

    \b
    Examples:
      nnscan report
      nnscan report mnist --output mnist.html
      nnscan report mnist --figures
      nnscan report mnist --figures-dir paper/figures
    """
    from nnscan.cli.arrow import do_without_pandas

    do_without_pandas()
    from nnscan.report.writing import write_report

    folder = find_scan(scan, scan_dir)
    place = figures_dir or (folder.path / "figures" if figures else None)
    written = write_report(folder, output=output, figures=place, rerun=launch_again(folder))
    typer.echo(f"{shortest(written.page)}: {count(written.pictures, 'figure')}, {written.bytes / 1e6:.1f} MB")
    if place:
        typer.echo(f"{shortest(place)}: {count(len(written.figures), 'file')}")
