"""The report as files, of scans in any state."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from PIL import Image
from reported import (
    SCAN,
    diverge,
    examples_of,
    fail,
    launched,
    model_folder,
    predictions_of,
    record_steps,
    retrain,
    train,
)

from nnscan.errors import ScanError, StoreError
from nnscan.plan import Plan
from nnscan.report import writing
from nnscan.report.markup import Html
from nnscan.report.material import Material, read
from nnscan.report.picture import Picture, drawn
from nnscan.report.sections import sections
from nnscan.report.sections.section import Section
from nnscan.report.testing import test_scores as scores_in_test
from nnscan.report.writing import write_report
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer
from nnscan.trial import Trial

STEPS = dict.fromkeys(("accuracy", "gradient_norm/0.weight", "gradient_norm/2.weight"), (0.1, 0.2, 0.3))
CLASSES = ("0", "1", "2")
PREDICTIONS = predictions_of(
    ["0", "1", "2", "1"], [(0.7, 0.2, 0.1), (0.1, 0.8, 0.1), (0.4, 0.3, 0.3), (0, 1, 0)], CLASSES
)


def anchors(folder: ScanFolder) -> list[str]:
    return [section.anchor for section in sections(read(folder), "nnscan launch x")]


def figures(folder: ScanFolder) -> set[str]:
    """The names of the figures of a scan; nothing is drawn."""
    found = sections(read(folder), "")
    return {part.name for section in found for part in section.parts if isinstance(part, Picture)}


def words(folder: ScanFolder) -> str:
    """What the page says, without its figures."""
    found = sections(read(folder), "nnscan launch x")
    return " ".join(part for section in found for part in section.parts if isinstance(part, Html))


@pytest.fixture
def one_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out all figures but one: drawing takes time."""

    def few(material: Material, rerun: str) -> list[Section]:
        found = next(section for section in sections(material, rerun) if section.anchor == "grid")
        return [replace(found, parts=found.parts[:2])]

    monkeypatch.setattr(writing, "sections", few)


@pytest.fixture
def whole(tmp_path: Path) -> ScanFolder:
    """A scan with all that a report can show."""
    folder, plan = launched(tmp_path)
    trials = list(plan.trials())
    train(folder, trials[2:-1])
    fail(folder, trials[0])
    for trial in (trials[-1], trials[1]):
        record_steps(folder, trial, STEPS)
    return folder


def test_the_page_is_one_file_that_names_nothing_elsewhere(whole: ScanFolder) -> None:
    written = write_report(whole)
    text = written.page.read_text()
    assert written.page == whole.path / "report.html"
    assert written.bytes == len(text.encode())
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "<link" not in text.replace('<link rel="icon" href="data:,">', "")
    assert "Content-Security-Policy" in text
    (drawing, *_) = re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', text)
    assert base64.b64decode(drawing).rstrip().endswith(b"</svg>")
    assert written.figures == ()


def test_each_figure_is_written_as_png_and_svg(whole: ScanFolder, tmp_path: Path, one_figure: None) -> None:
    written = write_report(whole, output=tmp_path / "out" / "page.html", figures=tmp_path / "figures")
    assert [path.name for path in written.figures] == ["marginal.model.width.png", "marginal.model.width.svg"]
    for path, magic in zip(written.figures, (b"\x89PNG", b"<?xml"), strict=True):
        assert path.read_bytes().startswith(magic)
    assert not (whole.path / "report.html").exists()


def test_the_same_scan_gives_the_same_page(whole: ScanFolder, one_figure: None) -> None:
    assert write_report(whole).page.read_bytes() == write_report(whole).page.read_bytes()


def test_sections_are_those_the_scan_has_something_for(whole: ScanFolder) -> None:
    assert anchors(whole) == ["scan", "leaderboard", "curves", "grid", "test", "failed", "origin"]


def test_figures_of_a_scan_without_models(whole: ScanFolder) -> None:
    names = figures(whole)
    assert {"curves.val_accuracy.MLP", "curves.val_accuracy.CNN", "losses.MLP", "losses.CNN", "grid.MLP"} <= names
    assert {"marginal.model.width", "marginal.optimizer.learning_rate", "marginal.model.batch_norm"} <= names
    assert "marginal.model.batch_norm+model.skip" in names


def test_a_retrained_winner_brings_its_test(whole: ScanFolder) -> None:
    assert f"nnscan retrain-best {whole.path}" in words(whole)
    winner = read(whole).families[1].winner
    assert winner is not None
    trial = next(t for t in Plan.read(whole).trials() if t.configuration == winner.configuration)
    retrain(whole, trial, 0.86)
    retrain(whole, trial, 0.88, replicate=1)
    retrain(whole, trial, replicate=2, status="diverged")
    path = model_folder(whole, "CNN", CLASSES, PREDICTIONS, winner.configuration)
    text = words(whole)
    assert "0.8700 ± 0.0141 (n = 2)" in text
    assert "CNN: 75.00% of 4 right" in text
    assert "Shown is the first of 2 retrained networks" in text
    assert f"a retraining of {winner.configuration[:16]} diverged: a loss became NaN or infinite" in text
    names = figures(whole)
    assert {"confusion.CNN", "class_accuracy.CNN", "reliability.CNN", "probabilities.CNN"} <= names
    pq.write_table(examples_of(30, CLASSES), path / "examples.parquet")
    assert {"worst.CNN", "gallery.CNN", "classes.CNN"} <= figures(whole)


def test_photographs_stand_in_the_page_as_webp() -> None:
    told = drawn(PHOTOGRAPH, every=True)
    assert told.source.startswith("data:image/webp;base64,")
    assert len(told.files["webp"]) < len(told.files["png"]) / 2
    with Image.open(io.BytesIO(told.files["webp"])) as one, Image.open(io.BytesIO(told.files["png"])) as other:
        assert one.size == other.size
        difference = np.abs(np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float))
    assert difference.mean() < 6  # of 255


def test_pictures_that_webp_makes_larger_stand_in_the_page_as_png(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnscan.report.picture.to_webp", lambda png: png + b" ")
    assert drawn(PHOTOGRAPH).source.startswith("data:image/png;base64,")


def photograph() -> Figure:
    noisy = np.linspace(0, 200, 256)[:, None, None] + np.random.default_rng(0).normal(0, 9, (256, 256, 3))
    figure = Figure((4, 4))
    figure.subplots().imshow(noisy.clip(0, 255).astype(np.uint8), interpolation="nearest")
    return figure


PHOTOGRAPH = Picture(name="x", alt="", caption="", draw=photograph, pixels=True)


def test_what_diverged_is_told_in_words(tmp_path: Path) -> None:
    folder, plan = launched(tmp_path)
    first, *others = plan.trials()
    diverge(folder, first)
    train(folder, others)
    assert "a loss became NaN or infinite" in words(folder)
    assert "no message" not in words(folder)


def test_a_scan_of_one_trial_a_configuration_tells_no_ties(tmp_path: Path) -> None:
    folder, plan = launched(tmp_path, SCAN.replace("folds = 3", "holdout = 0.2"))
    train(folder, plan.trials())
    winners = words(folder).split('id="winners"')[1]
    (row,) = re.findall(r'<th scope="row">MLP</th>(.*?)</tr>', winners)
    assert re.findall(r"<td[^>]*>(.*?)</td>", row)[1] == "-"


def test_axes_that_vary_together_are_told_by_their_count(tmp_path: Path) -> None:
    coupled = SCAN.replace("[0.001, 0.01]", '[0.001, 0.01, 0.1]\nzip = ["model.width", "optimizer.learning_rate"]')
    folder, plan = launched(tmp_path, coupled)
    train(folder, plan.trials())
    assert "3 of 9 combinations" in words(folder)
    assert "4 of" not in words(folder)


def test_the_test_is_that_of_the_model_that_is_kept(whole: ScanFolder) -> None:
    told = read(whole)
    winner = told.families[1].winner
    assert winner is not None
    trial = next(t for t in Plan.read(whole).trials() if t.configuration == winner.configuration)
    retrain(whole, trial, 0.5)
    summary = read(whole).summary
    (lost,) = summary.retrained
    kept = replace(lost, test_accuracy=0.75, test_calibration_error=0.1)
    material = replace(told, summary=replace(summary, retrained=(lost, kept)))
    assert scores_in_test(material, winner.configuration).accuracy == "0.7500"


def test_the_notes_below_a_leaderboard_have_its_signs(whole: ScanFolder) -> None:
    assert "★ wins. = is tied with it" in words(whole)


def test_the_same_pictures_of_classes_are_shown_once(whole: ScanFolder) -> None:
    for family in ("MLP", "CNN"):
        path = model_folder(whole, family, CLASSES, PREDICTIONS)
        pq.write_table(examples_of(30, CLASSES), path / "examples.parquet")
    names = figures(whole)
    assert {"classes.MLP", "gallery.MLP", "gallery.CNN"} <= names
    assert "classes.CNN" not in names


def test_time_counts_once_for_trials_that_were_trained_together(whole: ScanFolder) -> None:
    told = read(whole)
    columns = {"seconds": [30.0, 30.0, 30.0, 5.0], "fused": [3, 3, 3, None]}
    rows = told.trials.slice(0, 4)
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, pa.array(values, rows.schema.field(name).type))
    found = sections(replace(told, trials=rows), "")
    assert "35 s of training in all" in " ".join(part for part in next(found).parts if isinstance(part, Html))


def test_a_mean_of_one_configuration_is_shown_with_the_weights_of_losses_alone(tmp_path: Path) -> None:
    text = """
    name = "weights"
    [data]
    name = "mnist_pairs"
    [validation]
    holdout = 0.2
    replicates = 2
    [training]
    epochs = 4
    [model]
    name = "siamese"
    [optimizer]
    name = "sgd"
    [task]
    name = "pairs"
    [[grid]]
    family = "A"
    task.digit_weight = [0.1, 0.31622776601683794, 1.0]
    """
    folder, plan = launched(tmp_path, text)
    train(folder, plan.trials(), curve=lambda trial: [0.5] * 5)
    names = figures(folder)
    assert "weights.A.task.digit_weight" in names
    assert "marginal.task.digit_weight" not in names
    assert "0.1, 0.316228, 1.0" in words(folder)


def test_steps_are_shown_where_they_were_recorded(tmp_path: Path) -> None:
    folder, plan = launched(tmp_path)
    for trial in plan.trials():
        if trial.fold == 0:
            record_steps(folder, trial, STEPS)
        else:
            train(folder, [trial])
    found = {section.anchor: section for section in sections(read(folder), "")}
    told = {picture.name: picture for picture in found["steps"].parts}
    assert set(told) == {
        f"{kind}.{family}" for kind in ("batch_accuracy", "gradient_norms") for family in ("MLP", "CNN")
    }
    assert "batch_norm no, skip no; batch_norm no, skip yes; batch_norm yes" in told["gradient_norms.CNN"].alt
    assert "4 panels" in told["gradient_norms.MLP"].alt


def test_a_scan_that_runs_gives_what_there_is(tmp_path: Path) -> None:
    folder, plan = launched(tmp_path)
    first, second, *_ = plan.trials()
    train(folder, [first])
    Writer(folder, "000009", {"launch": "l", "host": "h"}).start({"trial": second.key, "attempt": 1})
    text = words(folder)
    assert "30: 1 completed, 1 running, 28 pending" in text
    assert "No configuration is complete yet" in text
    assert "1 incomplete: these cannot win" in text


@pytest.mark.parametrize("value", [None, math.nan], ids=["every trial failed", "no trial has a score"])
def test_a_scan_without_a_score_is_reported(tmp_path: Path, value: float | None) -> None:
    folder, plan = launched(tmp_path)
    trials = list(plan.trials())
    if value is None:
        fail_all(folder, trials)
    else:
        train(folder, trials, curve=lambda trial: [math.nan] * 5)
    assert "nothing has won" in words(folder)
    assert not {name for name in figures(folder) if name.startswith(("marginal", "grid", "losses"))}


def fail_all(folder: ScanFolder, trials: Iterable[Trial]) -> None:
    for trial in trials:
        fail(folder, trial)


def test_a_metric_of_ones_own_is_enough(tmp_path: Path) -> None:
    """A training function has no data, no losses, no predictions."""
    text = """
    name = "own"
    [validation]
    folds = 2
    [training]
    function = "functions:rising"
    metrics = ["val_error"]
    epochs = 2
    [[grid]]
    family = "Own"
    training.arguments.rate = [0.1, 0.2, 0.4]
    """
    folder, plan = launched(tmp_path, text)
    writer = Writer(folder, "000000", {"launch": "l", "host": "h"})
    for trial in plan.trials():
        told = {"trial": trial.key, "configuration": trial.configuration, "families": ["Own"], "kind": "trial"}
        writer.start(
            {**told, "attempt": 1, "fold": trial.fold, "replicate": 0, "epochs": 2, "settings": trial.settings}
        )
        for epoch in (1, 2):
            writer.epoch({"trial": trial.key, "epoch": epoch, "metrics": {"val_error": 1 / epoch}})
        score = {"metric": "val_error", "score": 0.5, "best_epoch": 2}
        writer.end({"trial": trial.key, "status": "completed", **score, "epochs_run": 2})
    writer.close()
    assert figures(folder) == {"curves.val_error.Own", "marginal.training.arguments.rate"}


def test_before_a_trial_has_ended_it_says_what_to_type(tmp_path: Path) -> None:
    folder, _ = launched(tmp_path)
    with pytest.raises(ScanError, match=r"no trial has ended yet.*nnscan watch made.*nnscan launch"):
        write_report(folder)
    with pytest.raises(ScanError, match="nothing was launched"):
        write_report(ScanFolder(tmp_path / "empty"))


def test_a_place_that_cannot_be_written_is_told(whole: ScanFolder, tmp_path: Path, one_figure: None) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written.*--output"):
        write_report(whole, output=tmp_path / "file" / "report.html")


def test_a_folder_of_figures_that_cannot_be_written_is_told(
    whole: ScanFolder, tmp_path: Path, one_figure: None
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be written.*--figures-dir"):
        write_report(whole, figures=tmp_path / "file")


@pytest.mark.parametrize("name", ["predictions.parquet", "model.json"])
def test_a_damaged_model_folder_is_named(whole: ScanFolder, name: str) -> None:
    path = model_folder(whole, "CNN", CLASSES, PREDICTIONS)
    (path / name).write_bytes(b"nonsense")
    with pytest.raises(StoreError, match=re.escape(str(path / name))):
        words(whole)


def test_predictions_of_other_classes_are_named(whole: ScanFolder) -> None:
    path = model_folder(whole, "CNN", ("a", "b", "c"), PREDICTIONS)
    with pytest.raises(StoreError, match=re.escape(str(path / "predictions.parquet"))):
        words(whole)
