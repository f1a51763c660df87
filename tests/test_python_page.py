"""docs/python.md is true: its program runs, and its table has every name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import nnscan

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()


def test_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    program = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)[0]
    exec(compile(program, "docs/python.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == lines[0].split()[1]
    assert [line.split()[0] for line in lines[1:-1]] == ["MLP", "CNN"]
    model, accuracy = lines[-1].split()
    assert Path(model, "model.safetensors").is_file()
    assert 0 < float(accuracy) <= 1


def test_the_table_has_every_name() -> None:
    told = re.findall(r"^\| `(\w+)", PAGE, flags=re.MULTILINE)
    assert sorted(told) == [name for name in nnscan.__all__ if name != "__version__"]
