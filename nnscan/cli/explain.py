"""`nnscan explain`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Method(StrEnum):
    """How it is found out where a network looks."""

    CAM = "cam"
    GRAD_CAM = "grad-cam"


def explain(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, as retrain-best leaves it.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Image files.")],
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where the panels go; made where it is missing.")] = Path(
        "explained"
    ),
    method: Annotated[
        Method | None, typer.Option(help="Without it cam, of networks that have such maps, else grad-cam.")
    ] = None,
) -> None:
    """Show where in image files a retrained model sees the class that it predicts.

    Writes a PNG a file: the picture, the map, and the map over the picture; above them the class and
    how probable it is.

    \b
    Examples:
      nnscan explain scans/muffin_chihuahua/models/CNN picture.jpg
      nnscan explain scans/digits/models/CNN *.png --output maps --method grad-cam
    """
    from nnscan.explaining import explain, panels, write_panels

    panels(files, output)  # refused before anything is computed
    explanations = explain(model, files, method.value if method else "")
    for one, path in zip(explanations, write_panels(explanations, output), strict=True):
        said = one.prediction
        typer.echo(f"{said.file}: {said.class_name} ({said.probability:.1%}), {path}")
