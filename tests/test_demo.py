from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from nnscan import demo
from nnscan.data import dataset
from nnscan.grid import configurations
from nnscan.results.folder import ScanFolder
from nnscan.scan import load

ROOT = Path(__file__).parents[1]


def test_it_begins_anew_where_an_earlier_demo_was(tmp_path: Path) -> None:
    (tmp_path / "demo" / "scans" / "digits").mkdir(parents=True)
    demo.begin_anew(tmp_path / "demo")
    assert list((tmp_path / "demo").iterdir()) == []


def test_it_removes_nothing_that_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(SystemExit, match=r"thesis\.tex"):
        demo.begin_anew(tmp_path)
    assert (tmp_path / "scans").is_dir()


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes in other working folders import this checkout, installed or not."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_command_is_shown_before_it_runs_and_its_failure_ends_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.run(tmp_path, "status", "--scan-dir", "nowhere")
    assert ended.value.code == 2
    assert capsys.readouterr().out == "\n$ nnscan status --scan-dir nowhere\n"


def test_the_pictures_are_those_of_the_test_set(tmp_path: Path) -> None:
    scan = ScanFolder(tmp_path / "scans" / "digits")
    scan.path.mkdir(parents=True)
    scan.scan_file.write_text(load().toml())
    paths = demo.write_pictures(scan, tmp_path / "pictures")
    settings = next(configurations(load())).settings
    data = dataset.load(settings["data"], root=None, cache=scan.cache, seed=0)
    assert [path.name for path in paths] == [f"digit-{digit}.png" for digit in range(10)]
    for digit, path in enumerate(paths):
        picture = torch.from_numpy(numpy.asarray(Image.open(path)).copy())
        same = (data.test_images == picture).flatten(1).all(dim=1)
        assert data.test_labels[same].tolist() == [digit]


@pytest.mark.slow
def test_the_demo_ends_well_twice(tmp_path: Path) -> None:
    for _ in range(2):
        command = [sys.executable, "-m", "nnscan.demo", str(tmp_path / "demo")]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr
        assert answer.stdout.count("$ nnscan") >= 4
