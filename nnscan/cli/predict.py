"""`nnscan predict`."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nnscan.prediction import Prediction


class Format(StrEnum):
    """How predictions are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, as retrain-best leaves it.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILES...", help="Image files.")],
    style: Annotated[
        Format, typer.Option("--format", help="json and csv have the probability of every class.")
    ] = Format.TABLE,
) -> None:
    """Say which class a retrained model sees in image files.

    Images may have any size and colour: they are converted as those were that the model was trained on.

    \b
    Examples:
      nnscan predict scans/digits/models/CNN seven.png
      nnscan predict scans/digits/models/CNN *.png --format csv > classes.csv
    """
    from nnscan.prediction import predict

    predictions = predict(model, files)
    match style:
        case Format.TABLE:
            typer.echo("\n".join(table_lines(predictions)))
        case Format.JSON:
            typer.echo(json.dumps([_row(prediction) for prediction in predictions], indent=1))
        case Format.CSV:
            _write_csv(predictions)


def table_lines(predictions: Sequence[Prediction]) -> list[str]:
    """Return a line a file: its name, the class, how probable that is."""
    names = max(len(str(prediction.file)) for prediction in predictions)
    classes = max(len(prediction.class_name) for prediction in predictions)
    return [
        f"{prediction.file!s:<{names}}  {prediction.class_name:<{classes}}  {prediction.probability:6.1%}"
        for prediction in predictions
    ]


def _row(prediction: Prediction) -> dict[str, object]:
    return {
        "file": str(prediction.file),
        "class": prediction.class_name,
        "probability": prediction.probability,
        "probabilities": prediction.probabilities,
    }


def _write_csv(predictions: Sequence[Prediction]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["file", "class", "probability", *predictions[0].probabilities])
    for prediction in predictions:
        probabilities = prediction.probabilities.values()
        writer.writerow([prediction.file, prediction.class_name, prediction.probability, *probabilities])
