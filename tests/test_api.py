from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import torch

import nnscan
from nnscan import api
from nnscan.errors import ScanError
from nnscan.launch_options import LaunchOptions
from nnscan.results.folder import ScanFolder

SCAN = """
name = "api"
[data]
name = "digits"
[validation]
holdout = 0.3
[training]
epochs = 1
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = 4
optimizer.name = "sgd"
optimizer.learning_rate = [0.1, 0.01]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a working folder with a scan file."""
    torch.set_num_threads(1)
    (tmp_path / "api.toml").write_text(SCAN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_scan_goes_its_whole_way(place: Path) -> None:
    scan = nnscan.load("api.toml")
    assert nnscan.dry_run(scan, cluster="inline").to_run == 2
    shown: list[object] = []
    assert nnscan.launch(scan, cluster="inline", show=shown.append).exit_code == 0
    assert shown[-1] == shown[-1].__class__(**{**vars(nnscan.status(scan)), "seconds": vars(shown[-1])["seconds"]})
    assert [leader.rank for leader in nnscan.summarize(scan).families[0].leaders] == [1, 2]
    models = nnscan.retrain_best(scan).models  # in this process, as it was launched
    assert models == {"MLP": place / "scans" / "api" / "models" / "MLP"}
    assert sorted(nnscan.read_trials(scan)["kind"].to_pylist()) == ["retraining", "trial", "trial"]
    assert set(nnscan.read_epochs(scan)["epoch"].to_pylist()) == {0, 1}
    with pytest.raises(nnscan.NnscanError, match=r"missing\.png"):
        nnscan.predict(models["MLP"], ["missing.png"])


def test_a_folder_of_its_own(place: Path) -> None:
    nnscan.launch("api.toml", folder="elsewhere/mine", cluster="inline", limit=1)
    assert nnscan.status("elsewhere/mine").completed == 1
    assert not (place / "scans").exists()


def test_keywords_are_the_options_of_a_launch() -> None:
    declared = {field.name: str(field.type) for field in fields(LaunchOptions)}
    assert {name: hint.__forward_arg__ for name, hint in api.LaunchKeywords.__annotations__.items()} == declared


def launch_at(scans: Path, scan: str, name: str) -> ScanFolder:
    """Make the folder of a launch, whose name tells when it began."""
    (scans / scan / "launches" / name).mkdir(parents=True)
    return ScanFolder(scans / scan)


def test_the_scan_launched_last_is_meant(tmp_path: Path) -> None:
    launch_at(tmp_path, "a", "20250101-000000-aaaaaa")
    second = launch_at(tmp_path, "b", "20250102-000000-aaaaaa")
    launch_at(tmp_path, "c", "20250101-235959-ffffff")
    assert api.scan_folder(scans=tmp_path) == second


def test_a_folder_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = launch_at(tmp_path, "a", "1"), launch_at(tmp_path / "scans", "a", "1")
    monkeypatch.chdir(tmp_path)
    assert api.scan_folder("a").path.absolute() == here.path
    (tmp_path / "a").rename(tmp_path / "b")
    assert api.scan_folder("a").path.absolute() == there.path


def test_a_scan_file_that_was_not_launched_is_told(place: Path) -> None:
    with pytest.raises(ScanError, match=r"no scan 'api'\. Nothing was launched in scans yet: nnscan launch"):
        api.scan_folder("api.toml")


def test_options_name_the_cluster_or_it_is_that_of_the_last_launch(place: Path) -> None:
    nnscan.launch("api.toml", cluster="inline", limit=1)
    folder = api.scan_folder("api")
    assert api.as_launched(folder, wait=True) == LaunchOptions(cluster="inline", wait=True)
    assert api.as_launched(folder, cluster="ray", address="a:1") == LaunchOptions(cluster="ray", address="a:1")
