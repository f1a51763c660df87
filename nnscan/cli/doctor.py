"""`nnscan doctor`."""

from __future__ import annotations

import shutil
import sys
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from nnscan.cli.options import DataRoot, ScanDirectory

NAME_WIDTH = 14
INDENT = " " * (len("fail ") + 1 + NAME_WIDTH + 1)


def doctor(
    scan_dir: ScanDirectory = Path("scans"),
    data_root: DataRoot = "",
    full: Annotated[bool, typer.Option("--full", help="Also start Ray on this machine (5 to 20 s).")] = False,
) -> None:
    """Look whether this machine has what scans need, and say what to do where not.

    Versions, CPUs and GPUs, Ray, Slurm, which data are found, and whether files can be written, renamed
    and locked where scans lie. Ends with 1 where something that is needed does not work.

    \b
    Examples:
      nnscan doctor
      nnscan doctor --full --scan-dir /scratch/me/scans --data-root /data
    """
    from nnscan.doctor import Verdict, examine

    failed = False
    for check in examine(scan_dir, Path(data_root), full=full):
        colour = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "red"}[check.verdict]
        typer.secho(f"{check.verdict.value:<5}", fg=colour, bold=check.verdict is not Verdict.OK, nl=False)
        typer.echo(f" {check.name:<{NAME_WIDTH}} {_indented(check.found)}")
        if check.advice:
            typer.echo(f"{INDENT}{_indented(check.advice)}")
        failed |= check.verdict is Verdict.FAIL
    raise typer.Exit(int(failed))


def _indented(text: str) -> str:
    """Return `text`, broken where the terminal ends; as it is where there is none."""
    if not sys.stdout.isatty():
        return text
    width = max(40, shutil.get_terminal_size().columns)
    lines = textwrap.wrap(text, width - len(INDENT), break_long_words=False, break_on_hyphens=False)
    return f"\n{INDENT}".join(lines)
