from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commanding import Command
from rich.console import Console

from nnscan.cli import evaluate as evaluate_command
from nnscan.cli.evaluate import sections
from nnscan.cli.plain import aligned
from nnscan.results.evaluation import evaluate

MODEL = "scans/small/models/MLP"


def test_people_are_told_the_numbers_of_the_test(nnscan: Command, launched: Path) -> None:
    result = nnscan("evaluate", MODEL, "--top", "3")
    assert result.exit_code == 0
    found = evaluate(launched / MODEL)
    lines = result.stdout.splitlines()
    assert lines[0] == f"{MODEL}: {found.examples} test examples of 10 classes"
    assert lines[1].startswith(f"accuracy {found.accuracy:.4f}, loss {found.loss:.4f}, calibration error ")
    matrix = lines[lines.index("Confusion matrix, a row a true class, a column a prediction:") + 1 :][:11]
    assert matrix[0].split() == ["true", *map(str, range(10))]
    counts = [[0 if cell == "." else int(cell) for cell in line.split()[1:]] for line in matrix[1:]]
    assert counts == found.matrix.tolist()
    worst = lines[lines.index("Worst, by the probability of the true class:") + 2 :][:4]
    assert [line.split()[0] for line in worst[:3]] == [str(one.index) for one in found.worst[:3]]
    assert worst[3] == ""


def test_programs_get_all_of_it(nnscan: Command, launched: Path) -> None:
    found = json.loads(nnscan("evaluate", MODEL, "--format", "json").stdout)
    results = json.loads((launched / MODEL / "model.json").read_text())["results"]
    assert found["accuracy"] == pytest.approx(results["test_accuracy"])
    assert found["loss"] == results["test_loss"]
    assert found["calibration_error"] == pytest.approx(results["test_calibration_error"], abs=1e-6)
    assert found["class_accuracy"] == pytest.approx(results["test_class_accuracy"])
    assert sum(map(sum, found["confusion_matrix"])) == found["examples"]
    assert len(found["worst"]) == len(found["uncertain"]) == 10


def test_layers_are_told_with_their_parameters(nnscan: Command, launched: Path) -> None:
    result = nnscan("evaluate", MODEL, "--layers")
    assert result.stdout.startswith(f"{MODEL}: {64 * 8 + 8 + 8 * 10 + 10} parameters in ")
    found = json.loads(nnscan("evaluate", MODEL, "--layers", "--format", "json").stdout)
    assert sum(layer["parameters"] for layer in found) == 64 * 8 + 8 + 8 * 10 + 10


@pytest.mark.parametrize(
    ("folder", "said"), [("scans/small", "not a model folder"), ("nowhere", "not a model folder")], ids=str
)
@pytest.mark.parametrize("more", [[], ["--layers"]], ids=["test", "layers"])
def test_a_folder_without_a_model_is_told(
    nnscan: Command, launched: Path, folder: str, said: str, more: list[str]
) -> None:
    result = nnscan("evaluate", folder, *more)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_model_without_a_test_is_told(nnscan: Command, launched: Path) -> None:
    (launched / MODEL / "predictions.parquet").unlink()
    result = nnscan("evaluate", MODEL)
    assert result.exit_code == 2
    assert "was never tested" in result.stderr


def model_of(folder: Path, classes: int, examples: int = 400) -> Path:
    """Write the test of a model with so many classes, of names with spaces."""
    folder.mkdir()
    names = [f"class {number}" for number in range(classes)]
    random = np.random.default_rng(5)
    probabilities = random.dirichlet(np.ones(classes), examples).astype(np.float32)
    labels = random.integers(0, classes, examples)
    columns = {
        "index": pa.array(range(examples), pa.int64()),
        "label": [names[one] for one in labels],
        "prediction": [names[one] for one in probabilities.argmax(1)],
        "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float32())),
    }
    (folder / "model.json").write_text(json.dumps({"classes": names, "results": {"test_loss": 1.0}}))
    pq.write_table(pa.table(columns), folder / "predictions.parquet")
    return folder


@pytest.mark.parametrize("classes", [2, 10, 20, 21, 100])
def test_it_is_readable_with_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    found = evaluate(model_of(tmp_path / "m", classes), 5)
    shown = dict(sections(found, 5))
    per_class, second, *_ = shown.values()
    if classes <= 20:
        assert len(per_class[0].cells) == classes
        assert [len(column.cells) for column in second] == [classes] * (classes + 1)
    else:
        assert len(per_class[0].cells) == 5
        assert [len(column.cells) for column in second] == [5] * 4
        assert per_class[2].cells[0] == f"{min(found.class_accuracy):.4f}"
        assert int(second[2].cells[0]) == max(one.count for one in found.confusions)
    for columns in shown.values():  # each row has as many words as the table has columns
        assert {len(line.split()) for line in aligned(columns)} == {len(columns)}


@pytest.mark.parametrize("width", [60, 100])
def test_a_terminal_is_not_overrun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    found = evaluate(model_of(tmp_path / "m", 12), 5)
    monkeypatch.setattr("rich.console.Console", lambda **options: Console(force_terminal=True, width=width, **options))
    evaluate_command._print(["title"], list(sections(found, 5)))
    from rich.text import Text

    lines = Text.from_ansi(capsys.readouterr().out).plain.splitlines()
    assert max(map(len, lines)) <= width
    assert any("class_11" in line for line in lines)


def test_a_test_is_told_without_torch(launched: Path) -> None:
    code = (
        "import sys\n"
        "from nnscan.cli import app\n"
        f"try: app(['evaluate', '{MODEL}'])\n"
        "finally: print(sorted({'torch', 'ray', 'pandas'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_json_has_null_for_a_probability_that_is_no_number(tmp_path: Path) -> None:
    folder = model_of(tmp_path / "m", 2, examples=3)
    table = pq.read_table(folder / "predictions.parquet")
    nothing = pa.array([[math.nan, math.nan]] * 3, pa.list_(pa.float32()))
    pq.write_table(table.set_column(3, "probabilities", nothing), folder / "predictions.parquet")
    told = json.dumps(evaluate_command.as_json(evaluate(folder)), allow_nan=False)
    found = json.loads(told)
    assert found["calibration_error"] is None
    assert {one["true_probability"] for one in found["worst"]} == {None}
