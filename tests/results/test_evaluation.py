"""What a model folder tells of its test, against numbers worked out by hand and a loop of its own."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import nnscan
from nnscan.errors import DataError
from nnscan.results.evaluation import Confusion, TestedExample, evaluate

CLASSES = ["cat", "dog", "owl"]
TEST = [
    ("cat", [0.8, 0.1, 0.1]),
    ("cat", [0.3, 0.6, 0.1]),
    ("cat", [0.05, 0.9, 0.05]),
    ("dog", [0.2, 0.4, 0.4]),  # a tie: the first class
    ("dog", [0.1, 0.2, 0.7]),
]
"""Label and probabilities; nothing is an owl."""


def write_model(folder: Path, test: list[tuple[str, list[float]]], classes: list[str], **results: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"classes": classes, "results": results}))
    predictions = [classes[probabilities.index(max(probabilities))] for _, probabilities in test]
    columns = {
        "index": pa.array(range(len(test)), pa.int64()),
        "label": [label for label, _ in test],
        "prediction": predictions,
        "probabilities": pa.array([probabilities for _, probabilities in test], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "CNN", TEST, CLASSES, test_loss=0.75)


def test_the_numbers_of_a_small_test(model: Path) -> None:
    found = evaluate(model)
    assert (found.examples, found.classes, found.loss) == (5, ("cat", "dog", "owl"), 0.75)
    assert found.accuracy == pytest.approx(2 / 5)
    assert found.matrix.tolist() == [[1, 2, 0], [0, 1, 1], [0, 0, 0]]
    assert found.class_examples == (3, 2, 0)
    assert found.class_accuracy[:2] == (pytest.approx(1 / 3), 0.5)
    assert math.isnan(found.class_accuracy[2])
    assert found.confusions == (
        Confusion(label="cat", prediction="dog", count=2, share=pytest.approx(2 / 3)),
        Confusion(label="dog", prediction="owl", count=1, share=0.5),
    )
    # Each confidence is alone in its group of 1/15: 0.8 and 0.4 are right.
    assert found.calibration_error == pytest.approx((0.2 + 0.6 + 0.9 + 0.6 + 0.7) / 5, abs=1e-6)


def test_the_worst_and_the_most_uncertain_examples(model: Path) -> None:
    found = evaluate(model, top=2)
    assert [one.index for one in found.worst] == [2, 4]
    assert found.worst[0] == TestedExample(
        index=2,
        label="cat",
        prediction="dog",
        probability=pytest.approx(0.9, abs=1e-6),
        true_probability=pytest.approx(0.05, abs=1e-6),
    )
    assert [one.index for one in found.uncertain] == [3, 1]


def test_of_a_random_test_it_says_what_a_loop_says(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    classes = [f"class {number}" for number in range(30)]
    probabilities = random.dirichlet(np.ones(30) * 0.1, 500).astype(np.float32)
    labels = random.integers(0, 30, 500)
    rows = [(classes[label], row.tolist()) for label, row in zip(labels, probabilities, strict=True)]
    found = evaluate(write_model(tmp_path / "m", rows, classes))
    matrix = [[0] * 30 for _ in range(30)]
    for label, row in zip(labels, probabilities, strict=True):
        matrix[label][int(row.argmax())] += 1
    assert found.matrix.tolist() == matrix
    assert found.accuracy == sum(matrix[one][one] for one in range(30)) / 500
    assert sum(one.count for one in found.confusions) == 500 - sum(matrix[one][one] for one in range(30))
    assert math.isnan(found.loss)


def test_from_python_it_is_a_function_of_the_package(model: Path) -> None:
    assert nnscan.evaluate(str(model), top=1).worst == evaluate(model, 1).worst


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not a model folder.*retrain-best"):
        evaluate(tmp_path)


def test_a_model_without_a_test_is_told(model: Path) -> None:
    (model / "predictions.parquet").unlink()
    with pytest.raises(DataError, match=r"never tested.*name a folder in models/"):
        evaluate(model)


@pytest.mark.parametrize("damage", ["json", "classes", "parquet", "column", "rows", "label", "widths"])
def test_what_is_damaged_is_told_with_its_file(model: Path, damage: str) -> None:
    table = pq.read_table(model / "predictions.parquet")
    match damage:
        case "json":
            (model / "model.json").write_text("{")
        case "classes":
            (model / "model.json").write_text('{"results": {}}')
        case "parquet":
            (model / "predictions.parquet").write_bytes(b"PAR1")
        case "column":
            pq.write_table(table.drop_columns(["label"]), model / "predictions.parquet")
        case "rows":
            pq.write_table(table.slice(0, 0), model / "predictions.parquet")
        case "label":
            write_model(model.with_name("other"), [("cow", [1.0, 0.0, 0.0])], CLASSES)
            (model.with_name("other") / "predictions.parquet").replace(model / "predictions.parquet")
        case "widths":
            write_model(model.with_name("other"), [("cat", [1.0, 0.0])], CLASSES)
            (model.with_name("other") / "predictions.parquet").replace(model / "predictions.parquet")
    name = "model.json" if damage in ("json", "classes") else "predictions.parquet"
    with pytest.raises(DataError, match=rf"{name} is damaged"):
        evaluate(model)


def test_it_needs_no_torch() -> None:
    code = "import sys, nnscan.results.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("named", ["scan", "scan/models", "scan/models/cnn"])
def test_what_is_no_model_folder_tells_which_there_are(tmp_path: Path, named: str) -> None:
    for family in ("CNN", "MLP"):
        write_model(tmp_path / "scan" / "models" / family, TEST, CLASSES)
    models = tmp_path / "scan" / "models"
    with pytest.raises(DataError) as caught:
        evaluate(tmp_path / named)
    assert str(caught.value).endswith(f"There are: {models / 'CNN'}, {models / 'MLP'}.")
