"""The report as files: the page, and each figure on its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nnscan.errors import StoreError
from nnscan.report.material import read
from nnscan.report.page import page
from nnscan.report.picture import Drawn, Picture, drawn
from nnscan.report.sections import sections
from nnscan.results.folder import ScanFolder, write_atomically


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was written."""

    page: Path
    bytes: int
    """Of the page."""
    figures: tuple[Path, ...]
    """Each figure as PNG and SVG; none where they were not asked for."""
    pictures: int
    """Figures in the page."""


def write_report(
    folder: ScanFolder, *, output: Path | None = None, figures: Path | None = None, rerun: str = ""
) -> Report:
    """Write the report of a scan, of what there is; return what was written.

    Parameters
    ----------
    folder : ScanFolder
        Of a scan that was launched; it may be running.
    output : Path, optional
        The page; None: `report.html` in the scan folder.
    figures : Path, optional
        Folder for each figure as PNG and SVG; None: the page has them all, and no more files are written.
    rerun : str
        The command that launches the scan, as the page tells it; "": by the scan file in its folder.

    Raises
    ------
    ScanError
        Where nothing was launched, or no trial has ended yet.
    StoreError
        Where a file of the scan does not read, or the report cannot be written.
    """
    material = read(folder)
    rerun = rerun or shlex.join(["nnscan", "launch", str(folder.scan_file)])
    found = list(sections(material, rerun))
    pictures = [part for section in found for part in section.parts if isinstance(part, Picture)]
    ready = {picture.name: drawn(picture, every=figures is not None) for picture in pictures}
    target = output or folder.path / "report.html"
    content = page(material.summary.scan, found, ready).encode()
    _write(target, content, "--output")
    written = _write_figures(figures, ready.values()) if figures else ()
    return Report(page=target, bytes=len(content), figures=tuple(written), pictures=len(pictures))


def _write_figures(folder: Path, found: Iterable[Drawn]) -> Iterable[Path]:
    for one in found:
        for ending in ("png", "svg"):
            path = folder / f"{one.picture.name.replace('/', '_')}.{ending}"
            _write(path, one.files[ending], "--figures-dir")
            yield path


def _write(path: Path, content: bytes, option: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. Name another place with {option}."
        ) from error
