from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commanding import Command


def test_the_table_ranks_both_configurations(nnscan: Command, launched: Path) -> None:
    result = nnscan("summarize")
    assert result.exit_code == 0
    assert "small: 2 trials, 2 completed" in result.stdout
    assert "MLP: 2 configurations, 2 complete" in result.stdout
    assert "retrained on the whole training set" in result.stdout


def test_stdout_holds_the_data_alone(nnscan: Command, launched: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(nnscan("summarize", "--format", "csv").stdout)))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert {row["optimizer.learning_rate"] for row in rows} == {"0.01", "0.001"}
    assert json.loads(nnscan("summarize", "--format", "json").stdout)["counts"]["completed"] == 2


def test_top_shortens_the_leaderboard(nnscan: Command, launched: Path) -> None:
    lines = nnscan("summarize", "--format", "csv", "--top", "1").stdout.splitlines()
    assert len(lines) == 2


def test_parquet_goes_to_a_file(nnscan: Command, launched: Path) -> None:
    result = nnscan("summarize", "--format", "parquet", "--output", "board.parquet")
    assert (result.exit_code, result.stdout) == (0, "")
    assert pq.read_table("board.parquet")["family"].to_pylist() == ["MLP", "MLP"]


def test_a_table_in_a_file_is_the_table_that_is_piped(nnscan: Command, launched: Path) -> None:
    nnscan("summarize", "--output", "board.txt")
    assert Path("board.txt").read_text() == nnscan("summarize").stdout


def test_a_file_that_cannot_be_written_is_told(nnscan: Command, launched: Path) -> None:
    result = nnscan("summarize", "--format", "csv", "--output", "no/such/folder.csv")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "Error: no/such/folder.csv cannot be written: No such file or directory. Name another file with --output.\n"
    )


def test_another_metric_ranks_by_it(nnscan: Command, launched: Path) -> None:
    boards = [nnscan("summarize", "--format", "json", "--metric", metric).stdout for metric in ("val_loss", "epochz")]
    assert json.loads(boards[0])["smallest"] is True
    assert boards[1] == ""


def test_an_unknown_family_names_what_there_is(nnscan: Command, launched: Path) -> None:
    result = nnscan("summarize", "--family", "MPL")
    assert result.exit_code == 2
    assert "MLP" in result.stderr


def test_the_calibration_error_is_that_of_the_model_folder(nnscan: Command, launched: Path) -> None:
    card = Path("scans/small/models/MLP/model.json")
    content = json.loads(card.read_text())
    error = content["results"]["test_calibration_error"]
    assert 0 < error < 1
    (row,) = json.loads(nnscan("summarize", "small", "--format", "json").stdout)["retrained"]
    assert row["test_calibration_error"] == error
    lines = nnscan("summarize", "small").stdout.splitlines()
    head, told = lines[lines.index("retrained on the whole training set, tested once:") + 1 :][:2]
    assert told.split()[head.split().index("calibration_error")] == f"{error:.4f}"


@pytest.mark.parametrize("damage", ["another trial", "torn", "gone", "older"])
def test_a_model_folder_that_does_not_tell_it_is_passed_over(nnscan: Command, launched: Path, damage: str) -> None:
    card = Path("scans/small/models/MLP/model.json")
    content = json.loads(card.read_text())
    match damage:
        case "another trial":
            card.write_text(json.dumps({**content, "provenance": {"trial": "0"}}))
        case "torn":
            card.write_text(card.read_text()[:99])
        case "gone":
            card.unlink()
        case "older":
            content["results"].pop("test_calibration_error")
            card.write_text(json.dumps(content))
    (row,) = json.loads(nnscan("summarize", "small", "--format", "json").stdout)["retrained"]
    assert row["test_calibration_error"] is None
    assert row["test_accuracy"] > 0
