"""`nnscan summarize`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nnscan.cli.options import Families, ScanArgument, ScanDirectory, find_scan, launch_again
from nnscan.errors import Problem, ScanError, StoreError

if TYPE_CHECKING:
    from nnscan.results.summary import Summary

ROWS_FOR_PEOPLE = 10
PARQUET_MAGIC = b"PAR1"


class Format(StrEnum):
    """How a summary is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


def summarize(
    scan: ScanArgument = "",
    families: Families = [],  # noqa: B006  (typer reads it, nobody changes it)
    metric: Annotated[
        str, typer.Option(metavar="NAME", show_default=False, help="Rank by this metric. Without it: the scan's own.")
    ] = "",
    top: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", show_default=False, help="Rows of a leaderboard. Without it: 10, for programs all."
        ),
    ] = 0,
    by: Annotated[
        str,
        typer.Option(metavar="KEY", show_default=False, help="A leaderboard for each value of this hyperparameter."),
    ] = "",
    style: Annotated[Format, typer.Option("--format", help="The table is for people, the others for programs.")] = (
        Format.TABLE
    ),
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default=False, help="Write to this file, not to stdout.")
    ] = None,
    scan_dir: ScanDirectory = Path("scans"),
) -> None:
    """Show which configurations won in each family, and how sure that is.

    The score of a configuration is the mean over its folds and replicates, with the standard deviation.
    Those that the folds cannot tell from the winner are marked as tied. Below: what each axis does, what
    failed and why, and how the retrained winners did on the test set. Works while the scan runs, too.

    \b
    Examples:
      nnscan summarize
      nnscan summarize mnist --family CNN --top 20
      nnscan summarize mnist --metric val_loss --by optimizer.learning_rate
      nnscan summarize mnist --format csv > board.csv
      nnscan summarize mnist --format parquet --output board.parquet
    """
    from nnscan.allocator import keep_memory
    from nnscan.cli.arrow import do_without_pandas

    keep_memory()
    do_without_pandas()
    from nnscan.results.summary import summarize_folder

    folder = find_scan(scan, scan_dir)
    rows = top or (ROWS_FOR_PEOPLE if style is Format.TABLE else None)
    summary = summarize_folder(folder, metric=metric, families=families, by=by, top=rows)
    if output is None and style is Format.TABLE:
        from nnscan.cli.tables import print_summary

        print_summary(summary, rerun=launch_again(folder))
    else:
        _write(_content(summary, style, launch_again(folder)), output)


def _content(summary: Summary, style: Format, rerun: str) -> bytes:
    from nnscan.cli import export, plain

    match style:
        case Format.TABLE:
            return "".join(f"{line}\n" for line in plain.lines(summary, rerun)).encode()
        case Format.JSON:
            return export.to_json(summary).encode()
        case Format.CSV:
            return export.to_csv(summary).encode()
        case Format.PARQUET:
            return export.to_parquet(summary)


def _write(content: bytes, output: Path | None) -> None:
    if output is not None:
        _write_file(output, content)
    elif content.startswith(PARQUET_MAGIC) and sys.stdout.isatty():
        problem = "Parquet is no text for a terminal. Name a file, with --output board.parquet."
        raise ScanError("options", [Problem("--format", problem)])
    else:
        sys.stdout.buffer.write(content)


def _write_file(path: Path, content: bytes) -> None:
    from nnscan.results.folder import write_atomically

    try:
        write_atomically(path, content)
    except OSError as error:
        raise StoreError(f"{path} cannot be written: {error.strerror}. Name another file with --output.") from error
