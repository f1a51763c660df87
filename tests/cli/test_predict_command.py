from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from commanding import Command
from PIL import Image

MODEL = "scans/small/models/MLP"


@pytest.fixture
def pictures(launched: Path) -> list[str]:
    """Give two pictures, of other sizes than the model's."""
    names = ["black.png", "a picture.jpg"]
    for name, size in zip(names, (8, 30), strict=True):
        Image.new("RGB", (size, size), "black").save(name)
    return names


def test_a_line_a_file_with_class_and_probability(nnscan: Command, pictures: list[str]) -> None:
    result = nnscan("predict", MODEL, *pictures)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line[:13].strip() for line in lines] == pictures
    assert lines[0][13:] == lines[1][13:]  # black is black, whatever its size
    assert lines[0].endswith("%")


def test_json_and_csv_have_every_probability(nnscan: Command, pictures: list[str]) -> None:
    rows = json.loads(nnscan("predict", MODEL, *pictures, "--format", "json").stdout)
    table = list(csv.DictReader(io.StringIO(nnscan("predict", MODEL, *pictures, "--format", "csv").stdout)))
    assert sum(rows[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert rows[0]["probability"] == max(rows[0]["probabilities"].values())
    assert [row["file"] for row in table] == pictures
    assert float(table[1][rows[1]["class"]]) == rows[1]["probability"]


def test_files_that_are_no_pictures_are_all_named(nnscan: Command, pictures: list[str]) -> None:
    Path("notes.png").write_text("no picture")
    result = nnscan("predict", MODEL, pictures[0], "notes.png", "missing.png")
    assert result.exit_code == 2
    assert "notes.png" in result.stderr
    assert "missing.png" in result.stderr


def test_a_folder_without_a_model_is_told(nnscan: Command, pictures: list[str]) -> None:
    result = nnscan("predict", "scans/small", pictures[0])
    assert result.exit_code == 2
    assert "scans/small" in result.stderr
