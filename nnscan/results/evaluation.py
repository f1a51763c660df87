"""What a model folder tells of its test: from `model.json` and `predictions.parquet` alone, without torch."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from nnscan.errors import DataError
from nnscan.results.calibration import expected_calibration_error
from nnscan.results.folder import name_a_model
from nnscan.results.predictions import class_accuracy, confusion, predictions

COLUMNS = ("index", "label", "prediction", "probabilities")


@dataclass(frozen=True, kw_only=True)
class TestedExample:
    """What a model said of an example of its test."""

    __test__ = False  # pytest takes what begins with Test for a test

    index: int
    """In the test set."""
    label: str
    prediction: str
    probability: float
    """Of the prediction."""
    true_probability: float
    """Of the label."""


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """A class that was taken for another."""

    label: str
    prediction: str
    count: int
    share: float
    """Of the examples of the class."""


@dataclass(frozen=True, kw_only=True)
class ModelEvaluation:
    """How well a model did in its test; fractions from 0 to 1."""

    folder: Path
    classes: tuple[str, ...]
    examples: int
    accuracy: float
    loss: float
    """NaN where `model.json` has none."""
    calibration_error: float
    """Expected calibration error, 15 groups (Guo et al. 2017)."""
    matrix: NDArray[np.int64]
    """(C, C): examples of each class (rows) by what they were taken for (columns)."""
    worst: tuple[TestedExample, ...]
    """Those with the least probability of their class, the least first."""
    uncertain: tuple[TestedExample, ...]
    """Those with the least probability of the prediction, the least first."""

    @property
    def class_examples(self) -> tuple[int, ...]:
        """Examples of each class."""
        return tuple(self.matrix.sum(1).tolist())

    @property
    def class_accuracy(self) -> tuple[float, ...]:
        """Share of the examples of each class that were classified rightly; NaN where a class has none."""
        return tuple(class_accuracy(self.matrix).tolist())

    @property
    def confusions(self) -> tuple[Confusion, ...]:
        """What was taken for what else, the most frequent first."""
        wrong = self.matrix - np.diag(self.matrix.diagonal())
        pairs = sorted(np.argwhere(wrong).tolist(), key=lambda pair: (-wrong[pair[0], pair[1]], pair))
        return tuple(self._confusion(row, column) for row, column in pairs)

    def _confusion(self, row: int, column: int) -> Confusion:
        count = int(self.matrix[row, column])
        share = count / self.class_examples[row]
        return Confusion(label=self.classes[row], prediction=self.classes[column], count=count, share=share)


def evaluate(folder: Path, top: int = 10) -> ModelEvaluation:
    """Return how well the model in `folder` did in its test.

    Parameters
    ----------
    folder : Path
        A model folder, as `retrain-best` leaves it.
    top : int
        So many of the worst and of the most uncertain examples.

    Raises
    ------
    DataError
        Where the folder is no model folder, has no test, or is damaged.
    """
    classes, results = _card(folder)
    table = _predictions(folder)
    try:
        told = predictions(table, classes)
    except (pa.ArrowException, ValueError) as error:
        raise _damaged(folder / "predictions.parquet", error) from error
    said, true = told.confidences, told.true_probabilities
    loss = results.get("test_loss")
    return ModelEvaluation(
        folder=folder,
        classes=classes,
        examples=len(told.labels),
        accuracy=told.accuracy,
        loss=float(loss) if isinstance(loss, int | float) else math.nan,
        calibration_error=expected_calibration_error(said, told.correct > 0),
        matrix=confusion(told),
        worst=tuple(_examples(table, said, true, np.argsort(true, kind="stable")[:top])),
        uncertain=tuple(_examples(table, said, true, np.argsort(said, kind="stable")[:top])),
    )


def _examples(
    table: pa.Table, said: NDArray[np.float64], true: NDArray[np.float64], rows: NDArray[np.int64]
) -> Iterator[TestedExample]:
    named = table.select(["index", "label", "prediction"]).take(rows).to_pylist()
    for example, row in zip(named, rows, strict=True):
        yield TestedExample(**example, probability=float(said[row]), true_probability=float(true[row]))


def _card(folder: Path) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Return the classes and the results in `model.json`."""
    path = folder / "model.json"
    try:
        content = json.loads(path.read_bytes())
        return tuple(map(str, content["classes"])), dict(content["results"])
    except OSError as error:
        problem = f"model.json in it cannot be read ({error.strerror})"
        raise DataError(f"{folder} is not a model folder: {problem}. {name_a_model(folder)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _predictions(folder: Path) -> pa.Table:
    path = folder / "predictions.parquet"
    if not path.exists():
        raise DataError(
            f"The model in {folder} was never tested: it holds no predictions.parquet. Weights kept of a trial are not;"
            " name a folder in models/, which `nnscan retrain-best` writes."
        )
    try:
        table = pq.read_table(path, columns=list(COLUMNS))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _damaged(path, error) from error
    if table.column_names != list(COLUMNS) or not len(table):
        raise _damaged(path, ValueError(f"found {len(table)} rows of {', '.join(table.column_names)}"))
    return table


def _damaged(path: Path, error: Exception) -> DataError:
    first = (str(error).splitlines() or [""])[0]
    return DataError(f"{path} is damaged: {type(error).__name__}: {first}. Copy the folder anew, or retrain the model.")
