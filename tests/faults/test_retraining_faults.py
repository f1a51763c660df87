"""Retrainings that are killed, or find the disk full, at some moment: the next `retrain-best` leaves whole models."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from dying import launch_until, launch_while_full
from launched import differences, launched_here, retrained_here, scan_of_networks, seeded, tables

LAST_LOOKS = 30
"""Of a retraining, after its last write."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a scan of networks that is done: in `scans`, and in `retrained` with its winner."""
    home = tmp_path_factory.mktemp("home")
    scan = scan_of_networks(home)
    launched_here(scan, home / "scans")
    shutil.copytree(home / "scans", home / "retrained")
    assert retrained_here(scan, home / "retrained").exit_code == 0
    return home


def check(home: Path, scans: Path, moment: int) -> None:
    """Retrain again: the model is that of an undisturbed retraining, and nothing else lies beside it."""
    assert retrained_here(home / "scan.toml", scans).exit_code == 0, f"moment {moment}"
    assert differences(tables(scans / "s"), tables(home / "retrained" / "s")) == [], f"moment {moment}"
    for name in ("model.safetensors", "predictions.parquet"):
        found, wanted = (folder / "s" / "models" / "MLP" / name for folder in (scans, home / "retrained"))
        assert found.read_bytes() == wanted.read_bytes(), f"moment {moment}"
    assert list((scans / "s").glob("checkpoints/*")) == []


def test_a_retraining_that_died_is_done_by_the_next(home: Path, tmp_path: Path) -> None:
    seen = launch_until(-1, home / "scan.toml", shutil.copytree(home / "scans", tmp_path / "counted"), retrained_here)
    for moment in seeded("retraining").sample(range(1, seen.seen + 1), 8):
        scans = shutil.copytree(home / "scans", tmp_path / f"scans-{moment}")
        assert not launch_until(moment, home / "scan.toml", scans, retrained_here).seen
        check(home, scans, moment)


def test_a_retraining_on_a_full_disk_is_told_and_done_by_the_next(home: Path, tmp_path: Path) -> None:
    seen = launch_until(-1, home / "scan.toml", shutil.copytree(home / "scans", tmp_path / "counted"), retrained_here)
    for moment in seeded("full").sample(range(1, seen.seen - LAST_LOOKS), 8):
        scans = shutil.copytree(home / "scans", tmp_path / f"scans-{moment}")
        ended = launch_while_full(moment, home / "scan.toml", scans, retrained_here)
        assert ended.code == 1, f"moment {moment}: {ended}"
        assert "No space left on device. " in ended.said and "Make room" in ended.said, f"moment {moment}: {ended}"
        check(home, scans, moment)
