"""Data that change, vanish or do not read between launches: told, nothing finished is lost, and how to go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from launched import Launched, differences, launched_here, said, tables
from PIL import Image

from nnscan.errors import DataError
from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials


def write_pictures(root: Path, count: int = 6) -> None:
    """Write tiny pictures of two classes, which differ in brightness."""
    for number, name in enumerate(("dark", "light")):
        (root / name).mkdir(parents=True)
        for index in range(count):
            pixels = np.random.default_rng(10 * number + index).integers(0, 100, (5, 5), dtype=np.uint8)
            Image.fromarray(pixels + 120 * number).save(root / name / f"{index}.png")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    write_pictures(home / "pictures")
    (home / "scan.toml").write_text("""
name = "s"
[data]
name = "image_folder"
root = "pictures"
size = 4
color = "grey"
test = 0.2
[validation]
folds = 2
[training]
epochs = 1
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = [2, 4]
optimizer.name = "sgd"
""")
    return home / "scan.toml"


def change_a_picture(pictures: Path) -> None:
    Image.fromarray(np.full((5, 5), 7, dtype=np.uint8)).save(pictures / "dark" / "0.png")


def remove_a_picture(pictures: Path) -> None:
    (pictures / "light" / "1.png").unlink()


def add_a_picture(pictures: Path) -> None:
    shutil.copy(pictures / "light" / "1.png", pictures / "light" / "new.png")


MORE = ("model.width=2,4,8",)


def test_data_that_changed_are_refused_until_accepted(scan: Path) -> None:
    scans, more = scan.parent / "scans", ("--grid", *MORE)
    launched_here(scan, scans)
    before = tables(scans / "s")
    (old,) = fingerprints(scans)
    change_a_picture(scan.parent / "pictures")

    code, text = said("launch", "scan.toml", "--cluster", "inline", *more, home=scan.parent)
    assert code == 2, text
    (words,) = [line for line in text.splitlines() if line.startswith("Error: ")]
    assert words.startswith(f"Error: data fingerprint: results of this scan were made with {old}; now it is ")
    assert "--scan-dir FOLDER" in words and "go on with --accept-changed" in words
    assert differences(tables(scans / "s"), before) == []

    code, text = said("launch", "scan.toml", "--cluster", "inline", *more, "--accept-changed", home=scan.parent)
    assert code == 0, text
    found = tables(scans / "s")[0]
    assert len(found) == 6 and all(row in found for row in before[0]), "finished trials stay as they were"
    assert len(fingerprints(scans)) == 2
    again = launched_here(scan, scans, axes=("model.width=2,4,8,16",))
    assert (again.exit_code, again.launched) == (0, 2), "what was accepted once stays accepted"


@pytest.mark.parametrize("change", [remove_a_picture, add_a_picture])
def test_a_picture_more_or_less_is_a_change(scan: Path, change: Callable[[Path], None]) -> None:
    scans = scan.parent / "scans"
    launched_here(scan, scans)
    change(scan.parent / "pictures")
    with pytest.raises(DataError, match="--accept-changed"):
        launched_here(scan, scans, axes=MORE)


def fingerprints(scans: Path) -> set[str]:
    return set(read_trials(ScanFolder(scans / "s"), ["data_fingerprint"])["data_fingerprint"].to_pylist())


def test_data_that_were_only_touched_are_the_same(scan: Path) -> None:
    scans = scan.parent / "scans"
    launched_here(scan, scans)
    for path in (scan.parent / "pictures").rglob("*.png"):
        path.touch()
    shutil.rmtree(scans / ".cache")
    assert launched_here(scan, scans, axes=("model.width=2,8",)).exit_code == 0


def test_data_that_vanished_cost_no_result(scan: Path) -> None:
    scans = scan.parent / "scans"
    launched_here(scan, scans)
    before = tables(scans / "s")
    (scan.parent / "pictures").rename(scan.parent / "elsewhere")
    code, text = said("launch", "scan.toml", "--cluster", "inline", "--grid", "model.width=8", home=scan.parent)
    assert code == 2, text
    assert "pictures" in text and "Traceback" not in text
    assert differences(tables(scans / "s"), before) == []
    assert said("summarize", "scans/s", home=scan.parent)[0] == 0


def test_data_that_vanish_while_a_scan_runs_end_it_and_cost_no_result(scan: Path) -> None:
    """Workers map what was decoded: so both are taken away, before the third trial."""
    scan.write_text(scan.read_text().replace("epochs = 1", "epochs = 1\nseed = 0").replace("[2, 4]", "[2, 4, 8]"))
    scans = scan.parent / "scans"
    undisturbed = launched_here(scan, scan.parent / "undisturbed")
    assert undisturbed.exit_code == 0
    launched_here(scan, scans, limit=2)
    shutil.rmtree(scans / ".cache")
    (scan.parent / "pictures").rename(scan.parent / "elsewhere")
    with pytest.raises(DataError, match="pictures"):
        launched_here(scan, scans)
    (scan.parent / "elsewhere").rename(scan.parent / "pictures")
    assert launched_here(scan, scans).launched == 4
    assert differences(tables(scans / "s"), tables(scan.parent / "undisturbed" / "s")) == []


def test_unreadable_pictures_are_all_named_and_nothing_is_created(scan: Path) -> None:
    pictures = scan.parent / "pictures"
    (pictures / "dark" / "2.png").write_bytes(b"no picture")
    content = (pictures / "light" / "3.png").read_bytes()
    (pictures / "light" / "3.png").write_bytes(content[: len(content) // 2])
    launch = Launched(scan, "--cluster", "local")
    assert launch.wait() == 2, launch.output
    assert launch.left() == []
    assert "dark/2.png" in launch.output and "light/3.png" in launch.output
    assert "Traceback" not in launch.output
    assert not (scan.parent / "scans" / "s").exists()


def test_more_folds_than_pictures_of_a_class_are_refused_and_nothing_is_created(scan: Path) -> None:
    code, text = said("launch", "scan.toml", "--cluster", "inline", "--set", "validation.folds=6", home=scan.parent)
    assert code == 2, text
    assert "folds" in text and "dark" in text and "Traceback" not in text
    assert not (scan.parent / "scans" / "s").exists()
