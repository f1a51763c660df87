from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commanding import Command


def test_the_page_lies_in_the_scan_folder(nnscan: Command, launched: Path) -> None:
    result = nnscan("report")
    assert result.exit_code == 0
    page = launched / "scans" / "small" / "report.html"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert str(page.relative_to(Path.cwd())) in result.stdout
    assert not (page.parent / "figures").exists()


def test_figures_lie_where_they_are_asked_for(nnscan: Command, launched: Path) -> None:
    result = nnscan("report", "--figures-dir", "paper", "--output", "page.html")
    assert result.exit_code == 0
    pictures = {path.stem for path in Path("paper").glob("*.png")}
    assert pictures == {path.stem for path in Path("paper").glob("*.svg")}
    assert f"{len(pictures)} figures" in result.stdout
    assert f"paper: {2 * len(pictures)} files" in result.stdout
    assert Path("page.html").exists()


def test_an_unknown_scan_is_told(nnscan: Command, launched: Path) -> None:
    assert nnscan("report", "nothing").exit_code == 2


def test_a_place_that_cannot_be_written_is_told(nnscan: Command, launched: Path) -> None:
    Path("file").write_text("")
    result = nnscan("report", "--output", "file/page.html")
    assert result.exit_code == 1
    assert "Name another place with --output." in result.stderr


@pytest.mark.parametrize("module", ["nnscan.cli", "nnscan.cli.report", "nnscan.api"])
def test_matplotlib_is_loaded_by_the_command_alone(module: str) -> None:
    code = f"import {module}, sys; print('matplotlib' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
