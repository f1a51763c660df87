from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from scans import rows_of, run

from nnscan import fingerprints, launch_folder
from nnscan.errors import DataError, ScanError
from nnscan.identity import NUMERICS
from nnscan.retraining import RetrainOptions, retrain_best
from nnscan.scan import Scan, read

CODE = """
def train(*, rate, fold):
    yield {"val_loss": rate * (1 + (fold or 0))}
"""


@pytest.fixture(autouse=True)
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a user's modules, of names that no other test imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def function_scan(module: str, rates: str = "[0.5]") -> Scan:
    return read(
        f'name = "own"\n[training]\nfunction = "{module}:train"\nmetrics = ["val_loss"]\nepochs = 1\n'
        f'[validation]\nfolds = 2\n[[grid]]\nfamily = "Own"\ntraining.arguments.rate = {rates}\n'
    )


def write_images(folder: Path, *, shade: int = 0) -> None:
    """24 images of 4 x 4 pixels in two classes, for training; 4 for the test."""
    for part, count in (("train", 12), ("test", 2)):
        for label, name in enumerate(("dark", "light")):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = Image.new("L", (4, 4), shade + 100 * label + number)
                image.save(folder / part / name / f"{number}.png")


def image_scan(grid: str = "") -> Scan:
    return read(
        'name = "images"\n[data]\nname = "image_folder"\nroot = "images"\nsize = 4\ncolor = "grey"\n'
        '[model]\nname = "mlp"\nwidth = 2\n[optimizer]\nname = "sgd"\n[validation]\nfolds = 2\n[training]\nepochs = 1\n'
        + grid
    )


def test_one_fingerprint_a_data_set_that_the_grid_names(at_home: Path) -> None:
    write_images(at_home / "images")
    scan = image_scan('[[grid]]\nfamily = "A"\ndata.size = [2, 4]\ndata.normalization = ["standard", "none"]\n')
    assert len(fingerprints.data_settings(scan)) == 2
    told = fingerprints.present(scan, at_home / "cache", download=False)
    assert len(told["data_fingerprint"]) == 1  # of the files, not of what they are resized to
    assert told["code_fingerprint"] == {""}
    assert told["numerics"] == {str(NUMERICS)}


def test_a_training_function_has_code_and_no_data(at_home: Path) -> None:
    (at_home / "code_alone.py").write_text(CODE)
    told = fingerprints.present(function_scan("code_alone"), at_home / "cache", download=False)
    assert told["data_fingerprint"] == set()
    (code,) = told["code_fingerprint"]
    assert len(code) == 32


def test_rows_have_the_fingerprints_that_a_launch_compares(at_home: Path) -> None:
    write_images(at_home / "images")
    outcome = run(image_scan(), at_home)
    told = fingerprints.present(image_scan(), outcome.folder.cache, download=False)
    (row,) = set(rows_of(outcome, "data_fingerprint", "code_fingerprint", "numerics"))
    assert ({row[0]}, {row[1]}, {str(row[2])}) == tuple(told.values())


def test_changed_data_are_refused_with_both_fingerprints_and_accepted_once_for_all(at_home: Path) -> None:
    write_images(at_home / "images")
    first = run(image_scan(), at_home, limit=1)
    write_images(at_home / "images", shade=1)
    with pytest.raises(DataError) as caught:
        run(image_scan(), at_home)
    ((old,),) = rows_of(first, "data_fingerprint")
    (new,) = fingerprints.present(image_scan(), first.folder.cache, download=False)["data_fingerprint"]
    for words in (old, new, "--accept-changed", "--scan-dir"):
        assert words in str(caught.value)
    assert run(image_scan(), at_home, limit=1, accept_changed=True).exit_code == 0
    assert {fingerprint for (fingerprint,) in rows_of(first, "data_fingerprint")} == {old, new}
    more = image_scan('[[grid]]\nfamily = "A"\nmodel.width = [2, 3]\n')
    assert run(more, at_home, limit=1).exit_code == 0  # not asked again
    asked = RetrainOptions(incomplete=True, epochs=1)
    assert retrain_best(first.folder, asked).exit_code == 0


def test_data_that_changed_back_are_refused_too(at_home: Path) -> None:
    write_images(at_home / "images")
    run(image_scan(), at_home, limit=1)
    write_images(at_home / "images", shade=1)
    run(image_scan(), at_home, limit=1, accept_changed=True)
    write_images(at_home / "images")
    more = image_scan('[[grid]]\nfamily = "A"\nmodel.width = [2, 3]\n')
    with pytest.raises(DataError):
        run(more, at_home, limit=1)


def test_changed_code_is_refused_with_both_fingerprints(at_home: Path) -> None:
    (at_home / "changing_code.py").write_text(CODE)
    outcome = run(function_scan("changing_code"), at_home)
    (old, *_) = (fingerprint for (fingerprint,) in rows_of(outcome, "code_fingerprint"))
    (at_home / "changing_code.py").write_text(CODE + "\n# another\n")
    with pytest.raises(ScanError, match="start Python anew"):
        run(function_scan("changing_code", "[0.5, 0.25]"), at_home)
    del sys.modules["changing_code"]
    more = function_scan("changing_code", "[0.5, 0.25]")
    (new,) = fingerprints.of_code(more)
    assert old != new
    with pytest.raises(DataError) as caught:
        run(more, at_home)
    for words in (old, new, "--accept-changed", "--scan-dir"):
        assert words in str(caught.value)
    assert run(more, at_home, accept_changed=True).exit_code == 0
    (launch, *_) = launch_folder.read_all(outcome.folder)[::-1]
    assert old in launch.accepted


def test_nothing_is_compared_where_nothing_is_to_be_run(at_home: Path) -> None:
    (at_home / "done_code.py").write_text(CODE)
    run(function_scan("done_code"), at_home)
    (at_home / "done_code.py").write_text(CODE + "\n# another\n")
    assert run(function_scan("done_code"), at_home).launched == 0


def test_results_of_points_that_left_the_grid_are_not_compared(at_home: Path) -> None:
    (at_home / "left_code.py").write_text(CODE)
    run(function_scan("left_code", "[0.5]"), at_home)
    (at_home / "left_code.py").write_text(CODE + "\n# another\n")
    del sys.modules["left_code"]
    assert run(function_scan("left_code", "[0.25]"), at_home).exit_code == 0


def test_data_of_a_users_function_go_on_in_a_second_launch(at_home: Path) -> None:
    (at_home / "own_data.py").write_text(
        "import torch\ndef draw(*, seed):\n    x = torch.arange(48.0).reshape(24, 2) + seed % 5\n"
        "    y = torch.arange(24) % 2\n    return {'train': (x, y), 'test': (x, y)}\n"
    )
    text = (
        'name = "data"\n[data]\nname = "own_data:draw"\n[model]\nname = "mlp"\n[optimizer]\nname = "sgd"\n'
        "[training]\nepochs = 1\n[validation]\nfolds = 2\nreplicates = 2\n"
    )
    assert run(read(text), at_home, limit=2).exit_code == 0
    outcome = run(read(text), at_home)
    assert outcome.exit_code == 0
    assert len(set(rows_of(outcome, "data_fingerprint"))) == 2  # a draw a replicate


def test_folds_that_a_class_is_too_small_for_are_told_before_anything_starts(at_home: Path) -> None:
    write_images(at_home / "images")
    scan = read(image_scan().toml().replace("folds = 2", "folds = 13"))
    with pytest.raises(DataError, match="folds"):
        run(scan, at_home)
    assert not (at_home / "scans" / "images").exists()


def test_a_changed_task_changes_the_code(at_home: Path) -> None:
    text = "class Task:\n    def mean_loss(self, outputs, targets): ...\n    def scores(self, outputs): ...\n"
    (at_home / "own_fingerprinted_task.py").write_text(text)
    scan = read(
        'name = "own"\ndata.name = "digits"\nmodel.name = "mlp"\noptimizer.name = "sgd"\ntraining.epochs = 1\n'
        'task.name = "own_fingerprinted_task:Task"\n'
    )
    before = fingerprints.of_code(scan)
    assert before != {""}
    (at_home / "own_fingerprinted_task.py").write_text(text + "# changed\n")
    with pytest.raises(ScanError, match="its file has changed since this Python imported it"):
        fingerprints.of_code(scan)
    del sys.modules["own_fingerprinted_task"]
    assert fingerprints.of_code(scan) != before
