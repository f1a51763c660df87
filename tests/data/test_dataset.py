"""Loading a data set: decoded once, mapped afterwards, set apart by seed, changed data seen."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from nnscan import scan
from nnscan.data import dataset
from nnscan.data.dataset import load, stamp
from nnscan.data.folds import split_test
from nnscan.errors import DataError
from nnscan.grid import configurations

CHECKOUT = Path(__file__).parents[2]
DIGITS = {"name": "digits", "test": 0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder of 12 and 8 pictures without a test set; each has one grey of its own."""
    for label, (name, count) in enumerate((("cat", 12), ("dog", 8))):
        (tmp_path / "root" / name).mkdir(parents=True)
        for index in range(count):
            shade = 100 * label + index
            Image.new("L", (6, 6), shade).save(tmp_path / "root" / name / f"{index:02}.png")
    return tmp_path / "root"


def folder_settings(test: float = 0.25, **changes: Any) -> dict[str, Any]:
    return {"name": "image_folder", "size": 4, "color": "grey", "test": test, **changes}


def shades(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_digits_come_with_a_stratified_test_set(tmp_path: Path) -> None:
    digits = load(DIGITS, root=None, cache=tmp_path, seed=0)
    assert digits.images.shape == (1438, 1, 8, 8)
    assert digits.test_images.shape == (359, 1, 8, 8)
    counts = torch.bincount(torch.cat([digits.labels, digits.test_labels]))
    assert (torch.bincount(digits.test_labels) - counts * 359 / 1797).abs().max() < 1
    assert digits.classes == tuple("0123456789")


def test_a_test_set_apart_is_the_one_of_split_test(folder: Path, tmp_path: Path) -> None:
    data = load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=3)
    all_shades = torch.tensor([*range(12), *range(100, 108)])
    training, test = split_test((all_shades >= 100).long(), 0.25, seed=3)
    assert shades(data.images) == all_shades[training].tolist()
    assert shades(data.test_images) == all_shades[test].tolist()
    assert data.test_labels.tolist() == [0] * 3 + [1] * 2


def test_a_second_load_decodes_nothing(folder: Path, tmp_path: Path) -> None:
    first = load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=0)
    again = load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=0)
    assert (first.decoded, again.decoded) == (20, 0)
    assert torch.equal(first.images, again.images)
    assert first.fingerprint == again.fingerprint


def test_another_seed_or_share_sets_apart_anew_but_decodes_nothing(folder: Path, tmp_path: Path) -> None:
    first = load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=0)
    seeded = load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=1)
    larger = load(folder_settings(0.5), root=folder, cache=tmp_path / "cache", seed=0)
    assert (seeded.decoded, larger.decoded) == (0, 0)
    assert shades(seeded.test_images) != shades(first.test_images)
    assert (len(first.test_images), len(larger.test_images)) == (5, 10)


def test_what_decides_the_decoding_decodes_anew(folder: Path, tmp_path: Path) -> None:
    load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=0)
    for change in ({"size": 5}, {"color": "rgb"}):
        assert load(folder_settings(**change), root=folder, cache=tmp_path / "cache", seed=0).decoded == 20
    augmented = folder_settings(augmentation={"cutout": 2}, normalization="none")
    assert load(augmented, root=folder, cache=tmp_path / "cache", seed=0).decoded == 0


def test_a_changed_folder_is_seen(folder: Path, tmp_path: Path) -> None:
    settings = folder_settings()
    before = load(settings, root=folder, cache=tmp_path / "cache", seed=0)
    stamped = stamp(settings, folder)
    assert stamp(settings, folder) == stamped
    Image.new("L", (6, 6), 77).save(folder / "cat" / "new.png")
    after = load(settings, root=folder, cache=tmp_path / "cache", seed=0)
    assert stamp(settings, folder) != stamped
    assert after.decoded == 21
    assert after.fingerprint != before.fingerprint


def test_a_file_of_the_same_size_with_another_time_is_seen(folder: Path) -> None:
    before = stamp(folder_settings(), folder)
    os.utime(folder / "cat" / "00.png", ns=(0, 1))
    assert stamp(folder_settings(), folder) != before


def test_a_folder_that_vanished_is_told(tmp_path: Path) -> None:
    for ask in (stamp, lambda settings, root: load(settings, root=root, cache=tmp_path / "cache", seed=0)):
        with pytest.raises(DataError, match="does not exist"):
            ask(folder_settings(), tmp_path / "gone")
    assert not (tmp_path / "cache").exists()


def test_a_moved_folder_keeps_its_stamp_and_fingerprint(folder: Path, tmp_path: Path) -> None:
    before = stamp(folder_settings(), folder), load(folder_settings(), root=folder, cache=tmp_path / "c", seed=0)
    moved = folder.rename(tmp_path / "elsewhere")
    assert stamp(folder_settings(), moved) == before[0]
    assert load(folder_settings(), root=moved, cache=tmp_path / "c", seed=0).fingerprint == before[1].fingerprint


def test_an_unreadable_image_leaves_no_entry(folder: Path, tmp_path: Path) -> None:
    (folder / "cat" / "bad.png").write_bytes(b"bad")
    with pytest.raises(DataError, match=r"1 file below .*\n  cat/bad.png: is not an image"):
        load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=0)
    assert all(path.name.startswith(".") for path in (tmp_path / "cache").iterdir())


def test_without_a_root_the_working_folder_is_meant(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert load(folder_settings(), root=None, cache=tmp_path / "cache", seed=0).decoded == 20
    monkeypatch.chdir(folder.parent)
    assert load(folder_settings(), root=Path("root"), cache=tmp_path / "cache", seed=0).decoded == 0


def test_an_unknown_name_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'minst' is not known\. It is one of digits, mnist"):
        load({"name": "minst"}, root=None, cache=tmp_path, seed=0)


def test_a_process_that_finds_decoded_data_imports_no_decoder(folder: Path, tmp_path: Path) -> None:
    """Nor anything that takes long: Pillow, torchvision and scikit-learn stay out, and an open is milliseconds."""
    load(DIGITS, root=None, cache=tmp_path / "cache", seed=0)
    load(folder_settings(), root=folder, cache=tmp_path / "cache", seed=0)
    script = """
        import sys
        from pathlib import Path
        from nnscan.data.dataset import load
        digits = load({"name": "digits", "test": 0.2}, root=None, cache=Path(sys.argv[1]), seed=0)
        settings = {"name": "image_folder", "size": 4, "color": "grey", "test": 0.25}
        pictures = load(settings, root=Path(sys.argv[2]), cache=Path(sys.argv[1]), seed=0)
        print(digits.decoded, pictures.decoded, *sorted({"PIL", "torchvision", "sklearn"} & set(sys.modules)))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "cache"), str(folder)]
    assert subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, check=True).stdout == "0 0\n"


UNCHANGED = {"crop_padding": 0, "horizontal_flip": False, "cutout": 0}
OWN = """
calls = []

def blobs(points=40, seed=0, whole=False):
    import numpy as np
    calls.append((points, seed))
    random = np.random.default_rng(seed)
    y = np.arange(points) % 2
    x = random.normal(0, 1, (points, 2)) + 9 * y[:, None]
    return {"train": (x, y), "test": (x[:6], y[:6])} if whole else {"train": (x, y)}

def several(points=40):
    import numpy as np
    number = np.arange(points)
    x = (np.stack([number, number], 1), np.zeros((points, 1, 2)))
    return {"train": (x, np.stack([number % 2, number], 1))}

def fixed(points=40):
    return blobs(points)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A user's module, imported, with nothing kept of what it returned before."""
    (tmp_path / "own_blobs.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(dataset, "_kept", type(dataset._kept)())
    import own_blobs  # type: ignore[import-not-found]

    yield own_blobs
    del sys.modules["own_blobs"]


def load_own(path: str, tmp_path: Path, *, test: float = 0.2, replicate: int = 0, **arguments: Any) -> dataset.Dataset:
    settings = {"name": path, "arguments": arguments, "test": test, "augmentation": UNCHANGED}
    return load(settings, root=None, cache=tmp_path / "cache", seed=0, replicate=replicate)


def test_a_users_function_is_called_once_for_the_same_arguments(own: Any, tmp_path: Path) -> None:
    first = load_own("own_blobs:blobs", tmp_path, points=50)
    assert load_own("own_blobs:blobs", tmp_path, points=50) is first
    assert first.images.shape == (40, 2)
    assert first.images.dtype == torch.float32
    assert len(first.test_labels) == 10
    load_own("own_blobs:blobs", tmp_path, points=60)
    assert [points for points, _ in own.calls] == [50, 60]
    assert not (tmp_path / "cache").exists()


def test_each_replicate_draws_its_own_data_where_a_seed_is_taken(own: Any, tmp_path: Path) -> None:
    drawn = [load_own("own_blobs:blobs", tmp_path, replicate=replicate) for replicate in (0, 1, 0)]
    assert drawn[0] is drawn[2]
    assert drawn[0].fingerprint != drawn[1].fingerprint
    fixed = [load_own("own_blobs:fixed", tmp_path, replicate=replicate) for replicate in (0, 1)]
    assert fixed[0] is fixed[1]


def test_of_large_returns_the_latest_is_kept(own: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "KEPT_BYTES", 2 * 40 * 2 * 4)
    for points in (40, 41, 40, 39, 40):  # 40 and 41 together are too large, 40 and 39 are not
        load_own("own_blobs:blobs", tmp_path, points=points)
    assert [points for points, _ in own.calls] == [40, 41, 40, 39]


def test_several_inputs_and_targets_are_set_apart_together(own: Any, tmp_path: Path) -> None:
    data = load_own("own_blobs:several", tmp_path, test=0.25)
    assert data.input_shapes == ((2,), (1, 2))
    assert (data.images.shape, data.test_images.shape) == ((30, 4), (10, 4))
    for rows, targets, labels in (
        (data.images, data.targets, data.labels),
        (data.test_images, data.test_targets, data.test_labels),
    ):
        assert torch.equal(targets[:, 0], labels)
        assert torch.equal(targets[:, 1], rows[:, 0].long())  # which example it is
        assert torch.equal(labels, targets[:, 1] % 2)


def test_without_more_the_targets_are_the_labels(own: Any, tmp_path: Path) -> None:
    data = load_own("own_blobs:blobs", tmp_path)
    assert data.targets is data.labels
    assert data.test_targets is data.test_labels
    assert data.input_shapes == ()


def test_several_inputs_cannot_be_augmented(own: Any, tmp_path: Path) -> None:
    settings = {"name": "own_blobs:several", "arguments": {}, "test": 0.2, "augmentation": {**UNCHANGED, "cutout": 2}}
    with pytest.raises(DataError, match=r"Leave data\.augmentation out"):
        load(settings, root=None, cache=tmp_path, seed=0)


def test_a_test_set_of_its_own_is_taken(own: Any, tmp_path: Path) -> None:
    data = load_own("own_blobs:blobs", tmp_path, test=0.0, whole=True)
    assert (len(data.labels), len(data.test_labels)) == (40, 6)


def test_features_cannot_be_augmented(own: Any, tmp_path: Path) -> None:
    settings = {"name": "own_blobs:blobs", "arguments": {}, "test": 0.2, "augmentation": {**UNCHANGED, "cutout": 2}}
    with pytest.raises(DataError, match=r"own_blobs:blobs has the shape \(2,\)\. Leave data.augmentation out"):
        load(settings, root=None, cache=tmp_path, seed=0)


@pytest.mark.parametrize(
    ("test", "whole", "told"),
    [(0.0, False, "returned no test set. Return one, or .* --set data.test=0.2"), (0.2, True, "returned a test set")],
    ids=["none", "two"],
)
def test_one_test_set_is_needed(own: Any, tmp_path: Path, test: float, whole: bool, told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_own("own_blobs:blobs", tmp_path, test=test, whole=whole)


def test_the_stamp_of_a_users_function_is_its_source_and_its_arguments(own: Any, tmp_path: Path) -> None:
    def stamped(**arguments: Any) -> str:
        return stamp({"name": "own_blobs:blobs", "arguments": arguments, "test": 0.2}, None)

    assert stamped(points=3) == stamped(points=3) != stamped(points=4)
    before = stamped()
    (tmp_path / "own_blobs.py").write_text(OWN + "\n# changed\n")
    assert stamped() != before
    assert own.calls == []


def test_the_page_on_own_data_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (CHECKOUT / "docs" / "own_data.md").read_text()
    code, tables = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "toml"))
    assert code is not None
    assert tables is not None
    (tmp_path / "spirals.py").write_text(code[1])
    (tmp_path / "spirals.toml").write_text(tables[1])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    grid = list(configurations(scan.load("spirals.toml")))
    data = load(grid[0].settings["data"], root=None, cache=tmp_path, seed=0)
    assert len(grid) == 4
    assert (len(data.labels), len(data.test_labels)) == (720, 180)
    assert data.classes == ("red", "green", "blue")
    assert data.images.norm(dim=1).max() <= 1


@pytest.mark.slow
def test_muffins_are_decoded_once(data_root: Path, tmp_path: Path) -> None:
    settings = {"name": "image_folder", "size": 128, "color": "rgb", "test": 0.0}
    first = load(settings, root=data_root / "muffin_chihuahua", cache=tmp_path, seed=0)
    assert torch.bincount(first.labels).tolist() == [2559, 2174]
    assert torch.bincount(first.test_labels).tolist() == [640, 544]
    assert first.classes == ("chihuahua", "muffin")
    again = load(settings, root=data_root / "muffin_chihuahua", cache=tmp_path, seed=0)
    assert (first.decoded, again.decoded) == (5917, 0)
