"""Paths of weights in a scan file: settings hold what is in the files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nnscan.errors import ScanError
from nnscan.grid import configurations
from nnscan.scan import Scan, read

SCAN = """
name = "test"
data = {name = "image_folder", size = 8}
model.name = "torchvision:resnet18"
optimizer.name = "sgd"
training.epochs = 3
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(text: str, **options: Any) -> str:
    with pytest.raises(ScanError) as caught:
        read(SCAN + text, **options)
    (problem,) = caught.value.problems
    return str(problem)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def weights_of(scan: Scan) -> list[str]:
    return [one.settings["model"]["weights"] for one in configurations(scan)]


def test_the_key_holds_what_is_in_the_file_not_where_it_lies(place: Path) -> None:
    (place / "a.pt").write_bytes(b"weights")
    (place / "there").mkdir()
    (place / "there" / "b.pth").write_bytes(b"weights")
    scans = [
        read(f'{SCAN}model.weights = "{name}"')
        for name in ("a.pt", "./there/b.pth", str(place / "a.pt"), f"sha256:{digest(b'weights')}")
    ]
    assert len({one.key for scan in scans for one in configurations(scan)}) == 1
    assert weights_of(scans[0]) == [f"sha256:{digest(b'weights')}"]
    assert scans[1].weights == {digest(b"weights"): place / "there" / "b.pth"}
    assert scans[3].weights == {}


def test_other_weights_are_another_configuration(place: Path) -> None:
    keys = set()
    for content in (b"one", b"two"):
        (place / "a.pt").write_bytes(content)
        keys |= {one.key for one in configurations(read(f'{SCAN}model.weights = "a.pt"'))}
    assert len(keys) == 2


def test_weights_can_be_an_axis_beside_names(place: Path) -> None:
    (place / "a.pt").write_bytes(b"weights")
    scan = read(f'{SCAN}[[grid]]\nfamily = "A"\nmodel.weights = ["none", "IMAGENET1K_V1", "a.pt"]')
    assert weights_of(scan) == ["none", "IMAGENET1K_V1", f"sha256:{digest(b'weights')}"]
    assert weights_of(read(scan.toml())) == weights_of(scan)


def test_a_warm_start_is_named_likewise_and_by_a_model_folder(place: Path) -> None:
    folder = place / "models" / "CNN"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({}))
    (folder / "model.safetensors").write_bytes(b"weights")
    scan = read(SCAN, overrides=["training.warm_start=models/CNN"])
    (one,) = configurations(scan)
    assert one.settings["training"]["warm_start"] == f"sha256:{digest(b'weights')}"
    assert scan.weights == {digest(b"weights"): folder / "model.safetensors"}


def test_without_a_warm_start_keys_are_what_they_were() -> None:
    (one,) = configurations(read(SCAN))
    assert "warm_start" not in one.settings["training"]


@pytest.mark.parametrize("option", ["model.weights", "training.warm_start"])
@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("lost.pt", ["lost.pt", "no such file below", "model folder"]),
        ("imagenet", ["no such file", "IMAGENET1K_V1"]),
        ("empty", ["folder without model.json"]),
        ("half", ["half", "no such file"]),
        ("nul\\u0000", ["null"]),
        ("~nobody-of-this-name/a.pt", ["~nobody-of-this-name", "home directory"]),
        ("sha256:12", ["sha256:12", "64 hex digits"]),
    ],
)
def test_what_is_no_file_of_weights_is_told(option: str, value: str, parts: list[str], place: Path) -> None:
    for name in ("empty", "half"):
        (place / name).mkdir()
    (place / "half" / "model.json").write_text("{}")
    problem = told(f'{option} = "{value}"')
    assert problem.startswith(option)
    assert all(part in problem for part in parts), problem


def test_a_warm_start_beside_weights_is_refused(place: Path) -> None:
    (place / "a.pt").write_bytes(b"weights")
    problem = told('training.warm_start = "a.pt"\nmodel.weights = "IMAGENET1K_V1"')
    assert "replaces all weights" in problem
