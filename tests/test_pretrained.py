"""Weights that a scan starts from: where they are put, what is told before any trial, and what comes of them."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch import nn

from nnscan import launch_folder, launching, pretrained
from nnscan.cli.estimate import estimate_lines
from nnscan.errors import DataError, ScanError
from nnscan.estimate import dry_run
from nnscan.launch_options import LaunchOptions, Outcome, Submitted
from nnscan.launching import launch
from nnscan.models.build import build
from nnscan.models.folder import load_model
from nnscan.prediction import predict
from nnscan.report.writing import write_report
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.retraining import RetrainOptions, retrain_best
from nnscan.scan import Scan, read

torch.set_num_threads(1)

NETWORK = "shufflenet_v2_x0_5"
TORCHVISION = f"""
name = "started"
data.name = "digits"
validation.holdout = 0.1
training = {{epochs = 0, keep = "best"}}
optimizer.name = "sgd"
model = {{name = "torchvision:{NETWORK}", input_size = 32}}
"""
MLP = """
name = "mlp"
data.name = "digits"
validation.folds = 3
training.epochs = 2
optimizer.name = "adam"
model = {name = "mlp", width = 8}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; beside it the empty one in which torch keeps weights."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path / "here"


@pytest.fixture
def torchs(tmp_path: Path) -> Path:
    return tmp_path / "torch" / "checkpoints"


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(11)
    return torchvision.models.get_model(NETWORK, weights=None)


def run(text: str, *overrides: str, **options: Any) -> Outcome:
    scan = read(text, overrides=overrides)
    return launch(scan, ScanFolder(Path("scans") / scan.name), LaunchOptions(cluster="inline", **options))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept(outcome: Outcome) -> nn.Module:
    (folder,) = outcome.folder.kept.iterdir()
    network = load_model(folder).network
    assert isinstance(network.network, nn.Module)
    return network.network


def shares_all_but_head(one: nn.Module, other: nn.Module) -> bool:
    own, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(own[name], value) for name, value in theirs.items() if not name.startswith("fc."))


# ---------------------------------------------------------------------------------------------- files


def test_a_file_is_put_where_workers_look_and_its_weights_are_what_is_trained(place: Path, trained: nn.Module) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    outcome = run(TORCHVISION, "model.weights=mine.pt")
    assert outcome.exit_code == 0
    assert [path.name for path in Path("scans/.weights").iterdir()] == [digest(place / "mine.pt")]
    assert shares_all_but_head(kept(outcome), trained)


def test_a_digest_alone_is_looked_for_in_torchs_folder(torchs: Path, trained: nn.Module) -> None:
    torch.save(trained.state_dict(), torchs / "any name")
    (torchs / "another").write_text("no weights")
    outcome = run(TORCHVISION, f"model.weights=sha256:{digest(torchs / 'any name')}")
    assert shares_all_but_head(kept(outcome), trained)
    assert digest(Path("scans/.weights") / digest(torchs / "any name")) == digest(torchs / "any name")


def test_named_weights_are_copied_from_torchs_folder(torchs: Path, trained: nn.Module) -> None:
    name = torchvision.models.get_model_weights(NETWORK)["IMAGENET1K_V1"].url.rpartition("/")[2]
    torch.save(trained.state_dict(), torchs / name)
    outcome = run(TORCHVISION, "model.weights=IMAGENET1K_V1")
    assert shares_all_but_head(kept(outcome), trained)
    (torchs / name).unlink()  # another node may not have it
    again = run(TORCHVISION, "model.weights=IMAGENET1K_V1", "training.seed=1")
    assert again.exit_code == 0


def refused(*overrides: str, text: str = TORCHVISION, **options: Any) -> str:
    """Return what a launch says that starts nothing."""
    with pytest.raises((DataError, ScanError)) as caught:
        run(text, *overrides, **options)
    assert caught.value.exit_code == 2
    assert not [path for path in Path("scans").glob("*") if not path.name.startswith(".")]
    return str(caught.value)


def no_network(*arguments: Any, **keywords: Any) -> None:
    raise OSError("no route to host")


def test_named_weights_that_cannot_be_had_are_told_before_any_trial(
    torchs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    told = refused("model.weights=IMAGENET1K_V1")
    assert str(torchs / "shufflenetv2_x0.5-f707e7126e.pth") in told
    assert "no route to host" in told
    assert "copy them" in told


def test_a_node_of_slurm_may_have_what_the_login_node_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    scan = read(TORCHVISION, overrides=["model.weights=IMAGENET1K_V1"])
    (note,) = pretrained.gather(scan, Path("scans/.weights"))
    assert "no route to host" in note
    pretrained.check(scan, Path("scans/.cache"), Path("scans/.weights"))  # nothing to try


def test_a_digest_that_is_nowhere_is_told_before_any_trial() -> None:
    assert "has the SHA-256 " + "0" * 64 in refused("model.weights=sha256:" + "0" * 64)


def test_a_file_that_is_no_file_of_weights_is_told_before_any_trial(place: Path) -> None:
    (place / "mine.pt").write_text("text")
    assert f"{place / 'mine.pt'} is damaged, or no file of weights" in refused("model.weights=mine.pt")


def test_a_file_that_changes_meanwhile_is_told(trained: nn.Module) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    scan = read(TORCHVISION, overrides=["model.weights=mine.pt"])
    torch.save({}, "mine.pt")
    with pytest.raises(DataError, match="changed since the scan file was read"):
        pretrained.gather(scan, Path("scans/.weights"))
    Path("mine.pt").unlink()
    with pytest.raises(DataError, match=r"mine\.pt cannot be read: No such file"):
        pretrained.gather(scan, Path("scans/.weights"))


@pytest.mark.parametrize("option", ["model.weights", "training.warm_start"])
def test_weights_of_another_network_are_told_before_any_trial(option: str) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), "mine.pt")
    assert f"{option}: " in (told := refused(f"{option}=mine.pt"))
    assert "of another network" in told
    assert str(Path("mine.pt").absolute()) in told


def test_a_network_of_pairs_that_starts_from_weights_of_another_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), "mine.pt")
    pairs = """
    name = "pairs"
    data.name = "mnist_pairs"
    validation.holdout = 0.2
    training.epochs = 0
    optimizer.name = "sgd"
    model.name = "siamese"
    task.name = "pairs"
    """
    monkeypatch.setattr(
        "nnscan.data.dataset.load",
        lambda settings, **_: SimpleNamespace(
            images=torch.zeros(4, 2, 14, 14), input_shapes=(), classes=("a > b", "a <= b")
        ),
    )
    scan = read(pairs, overrides=["training.warm_start=mine.pt"])
    pretrained.gather(scan, _FOLDERS[1])
    with pytest.raises(ScanError, match="of another network"):
        pretrained.check(scan, *_FOLDERS)


def test_a_network_that_cannot_be_built_is_left_to_its_trial(trained: nn.Module) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    too_small = ("model.name=torchvision:squeezenet1_1", "model.input_size=2")
    pretrained.check(_gathered("training.warm_start=mine.pt", *too_small), *_FOLDERS)


def test_a_task_that_cannot_be_made_is_left_to_its_trial(
    place: Path, trained: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    (place / "no_task_at_all.py").write_text("def make():\n    return None\n")
    monkeypatch.syspath_prepend(place)
    pretrained.check(_gathered("training.warm_start=mine.pt", 'task.name="no_task_at_all:make"'), *_FOLDERS)


_FOLDERS = (Path("scans/.cache"), Path("scans/.weights"))


def _gathered(*overrides: str) -> Scan:
    scan = read(TORCHVISION, overrides=overrides)
    assert pretrained.gather(scan, _FOLDERS[1]) == []
    return scan


def test_only_what_starts_from_files_is_looked_at() -> None:
    assert pretrained.starts(read(MLP)) == []
    text = MLP + '[[grid]]\nfamily = "A"\nmodel.width = [4, 8]\noptimizer.learning_rate = [0.1, 0.2]\n'
    text += "task.label_smoothing = [0.0, 0.1]\n"
    found = pretrained.starts(read(f'{text}training.warm_start = ["none", "sha256:{"a" * 64}"]'))
    assert [one["model"]["width"] for one in found] == [4, 8]


# ---------------------------------------------------------------------------------------------- warm start


def epochs_of(outcome: Outcome) -> list[dict[str, Any]]:
    table = store.read_epochs(outcome.folder, columns=["trial", "epoch", "val_loss", "val_accuracy"])
    return sorted(table.to_pylist(), key=lambda row: (row["trial"], row["epoch"]))


def test_a_warm_start_goes_on_where_the_saved_model_stood() -> None:
    before = run(MLP.replace("folds = 3", "holdout = 0.2"), "training.keep=best", "name=before")
    (folder,) = before.folder.kept.iterdir()
    best = max(epochs_of(before), key=lambda row: row["val_accuracy"])
    after = run(MLP.replace("folds = 3", "holdout = 0.2"), f"training.warm_start={folder}", "name=after")
    first = epochs_of(after)[0]
    assert (first["epoch"], best["epoch"]) == (0, 2)
    assert {**first, "epoch": 2, "trial": ""} == {**best, "trial": ""}
    assert epochs_of(after)[2]["val_loss"] < best["val_loss"]


def test_every_fold_and_the_retraining_start_warm_and_the_model_stands_alone() -> None:
    state = build({"name": "mlp", "width": 8, "depth": 2, "dropout": 0.0, "activation": "relu"}, (1, 8, 8), 10, seed=9)
    Path("mine.safetensors").write_bytes(safetensors.torch.save(state.state_dict()))
    outcome = run(MLP, "training.warm_start=mine.safetensors", "training.epochs=0", "training.keep=best")
    for folder in outcome.folder.kept.iterdir():
        found = load_model(folder).network.state_dict()
        assert all(torch.equal(value, found[name]) for name, value in state.state_dict().items())
    Path("mine.safetensors").unlink()  # the scan has its copy
    assert retrain_best(outcome.folder, RetrainOptions()).exit_code == 0
    shutil.rmtree("scans/.weights")
    Image.new("L", (20, 30), 200).save("grey.png")
    (said,) = predict(outcome.folder.models / "mlp", [Path("grey.png")])
    pixels = torch.full((1, 1, 8, 8), 200, dtype=torch.uint8)
    model = load_model(outcome.folder.models / "mlp")
    assert list(said.probabilities.values()) == pytest.approx(model.predict(pixels)[0].tolist())


def test_a_head_for_other_classes_starts_anew_and_the_log_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    state = build({"name": "mlp", "width": 8, "depth": 2, "dropout": 0.0, "activation": "relu"}, (1, 8, 8), 7, seed=9)
    Path("mine.safetensors").write_bytes(safetensors.torch.save(state.state_dict()))
    assert run(MLP, "training.warm_start=mine.safetensors", limit=1).exit_code == 0
    log = capsys.readouterr().out + "".join(path.read_text() for path in Path("scans").rglob("logs/*"))
    assert "start anew: 5.weight, 5.bias" in log


def test_a_retrained_torchvision_network_predicts_without_the_weights_that_it_started_from(trained: nn.Module) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    outcome = run(TORCHVISION, "model.weights=mine.pt", "data.normalization=none")
    assert retrain_best(outcome.folder, RetrainOptions()).exit_code == 0
    shutil.rmtree("scans/.weights")
    Path("mine.pt").unlink()
    Image.new("RGB", (50, 40), (10, 200, 30)).save("green.png")
    (said,) = predict(outcome.folder.models / "started", [Path("green.png")])
    assert sum(said.probabilities.values()) == pytest.approx(1)


# ---------------------------------------------------------------------------------------------- untuned


RULES = """
[[grid]]
family = "animals"
model.class_ranges = [[0, 397], [398, 999]]
[[grid]]
family = "dogs"
model.class_ranges = [[151, 268], [0, 150, 269, 999]]
[[grid]]
family = "both"
model.class_ranges = [[[0, 397], [398, 999]], [[151, 268], [0, 150, 269, 999]]]
"""
FOLDERS = 'name = "untuned"\ndata = {name = "image_folder", size = 32, root = "pictures", normalization = "imagenet"}'


def pictures(count: int) -> torch.Tensor:
    """Write random pictures, cats and dogs in turn, to train and to test on; return those of the test."""
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randint(0, 256, (2, count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    for part, name in enumerate(("train", "test")):
        for number in range(count):
            folder = Path("pictures") / name / ("cat", "dog")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[part, number].numpy()).save(folder / f"{number:02}.png")
    return pixels[1].permute(0, 3, 1, 2)


def test_an_untuned_network_is_scored_and_tested_by_its_first_choice(trained: nn.Module) -> None:
    images = pictures(24)
    torch.save(trained.state_dict(), "mine.pt")
    settings = TORCHVISION.replace('name = "started"\ndata.name = "digits"', FOLDERS)
    outcome = run(settings + RULES, "model.weights=mine.pt")
    assert outcome.exit_code == 0
    assert len(store.read_trials(outcome.folder, ["trial"])) == 2  # those of the family "both" are the other two
    ended = retrain_best(outcome.folder, RetrainOptions(families=("animals", "dogs")))
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    inputs = (images / 255 - mean[:, None, None]) / deviation[:, None, None]
    with torch.inference_mode():
        choice = trained.eval()(inputs).argmax(1)
    labels = torch.arange(24) % 2
    for family, first, last in (("animals", 0, 397), ("dogs", 151, 268)):
        said = torch.where((choice >= first) & (choice <= last), 0, 1)
        (retrained,) = (one for one in ended.retrained if one.family == family)
        assert retrained.test_accuracy == pytest.approx((said == labels).double().mean().item())
        assert retrained.epochs == 0
        files = [Path(f"pictures/test/{('cat', 'dog')[number % 2]}/{number:02}.png") for number in range(24)]
        found = predict(ended.models[family], files)
        assert [one.class_name for one in found] == [("cat", "dog")[one] for one in said.tolist()]
    assert write_report(outcome.folder).page.is_file()  # of curves that are a point


def test_ranges_of_other_classes_are_told_before_any_trial(trained: nn.Module) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    told = refused("model.weights=mine.pt", "model.class_ranges=[[0, 397], [398, 999]]")
    assert "model.class_ranges: found ranges of 2 classes; the data have 10" in told


# ---------------------------------------------------------------------------------------------- words


def test_a_dry_run_says_which_file_stands_behind_a_digest_and_makes_nothing(trained: nn.Module) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    scan = read(f'{TORCHVISION}[[grid]]\nfamily = "A"\nmodel.weights = ["none", "mine.pt"]')
    lines = list(estimate_lines(dry_run(scan, ScanFolder(Path("scans/started")), LaunchOptions(cluster="inline"))))
    name = f"sha256:{digest(Path('mine.pt'))[:16]}"
    assert f"  model.weights    2  none, {name}" in lines
    assert lines[-1] == f"Weights: {name} is {Path('mine.pt').absolute()}"
    assert not Path("scans").exists()


def test_a_launch_notes_which_file_stands_behind_a_digest(trained: nn.Module) -> None:
    torch.save(trained.state_dict(), "mine.pt")
    outcome = run(TORCHVISION, "model.weights=mine.pt")
    (one,) = launch_folder.read_all(outcome.folder)
    name = f"sha256:{digest(Path('mine.pt'))}"
    assert one.provenance["weights"] == {name: str(Path("mine.pt").absolute())}


# ---------------------------------------------------------------------------------------------- Slurm


@dataclass(frozen=True)
class Submitter:
    """Takes the place of the launcher of jobs."""

    launch: Any = None
    further_jobs: int = 0

    def plan(self, *arguments: Any) -> list[Any]:
        return [SimpleNamespace(bundles=((0, 1),))]


@pytest.fixture
def without_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a launch on Slurm go all its way but for Slurm."""
    monkeypatch.setattr(launching.submitting, "launcher", lambda *arguments: Submitter())
    monkeypatch.setattr(launching.submitting, "checked", lambda launcher, *arguments: (launcher, "not seen."))
    monkeypatch.setattr(launching.submitting, "submit", lambda launcher, *_: Submitted(launch="", jobs=()))


@pytest.mark.usefixtures("without_slurm")
def test_a_launch_on_slurm_notes_weights_that_the_login_node_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    scan = read(TORCHVISION, overrides=["model.weights=IMAGENET1K_V1"])
    outcome = launch(scan, ScanFolder(Path("scans/started")), LaunchOptions(cluster="slurm"))
    assert outcome.submitted is not None
    assert outcome.submitted.note.startswith("not seen. The weights ")
    assert "no route to host" in outcome.submitted.note


@pytest.mark.usefixtures("without_slurm")
def test_a_launch_on_slurm_refuses_weights_of_another_network_all_the_same() -> None:
    torch.save(nn.Linear(3, 3).state_dict(), "mine.pt")
    scan = read(TORCHVISION, overrides=["model.weights=mine.pt"])
    with pytest.raises(ScanError, match="of another network"):
        launch(scan, ScanFolder(Path("scans/started")), LaunchOptions(cluster="slurm"))
    assert not Path("scans/started").exists()
