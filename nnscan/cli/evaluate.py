"""`nnscan evaluate`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nnscan.cli.sheets import Column
from nnscan.results.wording import number, score

if TYPE_CHECKING:
    from nnscan.models.layers import Layer
    from nnscan.results.evaluation import ModelEvaluation, TestedExample

MATRIX_CLASSES = 20
"""With more classes the most frequent confusions stand in place of the matrix."""

Section = tuple[str, list[Column]]
"""A title, and the columns of its table."""

Content = tuple[Any, list[str], list[Section]]
"""What is told: as JSON values; and to people, as lines and tables."""


class Format(StrEnum):
    """How an evaluation is printed."""

    TABLE = "table"
    JSON = "json"


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, as retrain-best leaves it.")],
    top: Annotated[
        int, typer.Option(min=0, metavar="N", help="Rows of each list: examples, confusions; of classes where many.")
    ] = 10,
    layers: Annotated[
        bool, typer.Option("--layers", help="Show the layers of the network and their parameters, not its test.")
    ] = False,
    style: Annotated[Format, typer.Option("--format", help="The table is for people, json for programs.")] = (
        Format.TABLE
    ),
) -> None:
    """Show how well a retrained model did in its test: accuracies, calibration, confusions, worst examples.

    All of it is read from the model folder; neither data nor scan are needed. Examples are told by their index in
    the test set; examples.parquet in the folder holds the worst of them as pictures.

    \b
    Examples:
      nnscan evaluate scans/digits/models/CNN
      nnscan evaluate scans/digits/models/CNN --format json > evaluation.json
      nnscan evaluate scans/digits/models/CNN --layers
    """
    from nnscan.cli.arrow import do_without_pandas

    do_without_pandas()
    content, lines, shown = _layers(model) if layers else _test(model, top)
    if style is Format.JSON:
        typer.echo(json.dumps(content, indent=1))
    else:
        _print(lines, shown)


def _test(model: Path, top: int) -> Content:
    from nnscan.results.evaluation import evaluate

    found = evaluate(model, top)
    return as_json(found), headlines(found), list(sections(found, top))


def _layers(model: Path) -> Content:
    from nnscan.models.folder import load_model  # torch
    from nnscan.models.layers import layers

    loaded = load_model(model)
    found = layers(loaded.network, loaded.card.input_shape)
    total = f"{model}: {sum(layer.parameters for layer in found):,} parameters in {len(found):,} layers"
    return [asdict(layer) for layer in found], [total], [_layer_table(found)]


def headlines(found: ModelEvaluation) -> list[str]:
    """Return what is said of the whole test."""
    return [
        f"{found.folder}: {found.examples:,} test examples of {len(found.classes)} classes",
        f"accuracy {score(found.accuracy)}, loss {score(found.loss)},"
        f" calibration error {score(found.calibration_error)}",
    ]


def sections(found: ModelEvaluation, top: int) -> Iterator[Section]:
    """Yield the tables of an evaluation; lists have `top` rows."""
    few = len(found.classes) <= MATRIX_CLASSES
    yield _class_table(found, len(found.classes) if few else top)
    if few:
        yield _matrix_table(found)
    else:
        yield _confusion_table(found, top)
    if top:
        yield "Worst, by the probability of the true class", _example_columns(found.worst)
        yield "Most uncertain, by the probability of the prediction", _example_columns(found.uncertain)


def _class_table(found: ModelEvaluation, rows: int) -> Section:
    """Return a row a class; where not all of them are shown, those with the least accuracy."""
    shown = list(range(len(found.classes)))
    title = "Classes"
    if rows < len(shown):
        title = f"Classes, the {rows} least accurate of {len(shown)}"
        shown = sorted(shown, key=lambda one: _last_where_unknown(found.class_accuracy[one]))[:rows]
    return title, [
        Column("class", [_word(found.classes[one]) for one in shown]),
        Column("examples", [str(found.class_examples[one]) for one in shown], right=True),
        Column("accuracy", [score(found.class_accuracy[one]) for one in shown], right=True),
    ]


def _last_where_unknown(accuracy: float) -> float:
    return math.inf if math.isnan(accuracy) else accuracy


def _matrix_table(found: ModelEvaluation) -> Section:
    names = [_word(name) for name in found.classes]
    columns = [
        Column(name, [str(count) if count else "." for count in found.matrix[:, place].tolist()], right=True)
        for place, name in enumerate(names)
    ]
    return "Confusion matrix, a row a true class, a column a prediction", [Column("true", names), *columns]


def _confusion_table(found: ModelEvaluation, rows: int) -> Section:
    shown = found.confusions[:rows]
    return f"Confusions, the most frequent of {len(found.confusions):,}", [
        Column("true", [_word(one.label) for one in shown]),
        Column("taken_for", [_word(one.prediction) for one in shown]),
        Column("examples", [str(one.count) for one in shown], right=True),
        Column("of_class", [score(one.share) for one in shown], right=True),
    ]


def _example_columns(examples: Sequence[TestedExample]) -> list[Column]:
    return [
        Column("index", [str(one.index) for one in examples], right=True),
        Column("true", [_word(one.label) for one in examples]),
        Column("prediction", [_word(one.prediction) for one in examples]),
        Column("probability", [number(one.probability, 4) for one in examples], right=True),
        Column("of_true", [number(one.true_probability, 4) for one in examples], right=True),
    ]


def _word(name: str) -> str:
    """Return the name of a class as one word: columns of plain text are told apart by spaces."""
    return "_".join(name.split()) or "-"


def as_json(found: ModelEvaluation) -> dict[str, Any]:
    """Return an evaluation as JSON values; what is not known is null."""
    return {
        "folder": str(found.folder),
        "examples": found.examples,
        "accuracy": found.accuracy,
        "loss": _known(found.loss),
        "calibration_error": _known(found.calibration_error),
        "classes": list(found.classes),
        "class_examples": list(found.class_examples),
        "class_accuracy": [_known(value) for value in found.class_accuracy],
        "confusion_matrix": found.matrix.tolist(),
        "worst": [_example(one) for one in found.worst],
        "uncertain": [_example(one) for one in found.uncertain],
    }


def _example(one: TestedExample) -> dict[str, Any]:
    values = {name: _known(value) for name, value in asdict(one).items() if name.endswith("probability")}
    return {**asdict(one), **values}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _layer_table(found: Sequence[Layer]) -> Section:
    return "Layers, and what each gives for one example", [
        Column("layer", [layer.name or "-" for layer in found]),
        Column("kind", [layer.kind for layer in found]),
        Column("output", [layer.output.replace(", ", ",") or "-" for layer in found], right=True),
        Column("parameters", [str(layer.parameters) for layer in found], right=True),
    ]


def _print(lines: Sequence[str], shown: Sequence[Section]) -> None:
    from rich.console import Console
    from rich.text import Text

    from nnscan.cli.plain import aligned
    from nnscan.cli.tables import fitted

    console = Console(highlight=False)
    if not console.is_terminal:
        for title, columns in shown:
            lines = [*lines, "", f"{title}:", *aligned(columns)]
        typer.echo("\n".join(lines))
        return
    for line in lines:
        console.print(Text(line, style="bold"))
    for title, columns in shown:
        console.print(Text(f"\n{title}", style="bold"))
        for table in fitted(columns, [], console.width):
            console.print(table)
