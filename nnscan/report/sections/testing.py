"""What the retrained winners say of the test set: confusions, calibration, and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from nnscan.errors import NnscanError
from nnscan.report.activations import Activation, activations
from nnscan.report.drawing.images import draw_activations, draw_classes, draw_gallery, draw_worst
from nnscan.report.drawing.predictions import (
    draw_class_accuracy,
    draw_confusion,
    draw_probabilities,
    draw_reliability,
)
from nnscan.report.examples import CLASS, GALLERY, WORST, by_class, examples
from nnscan.report.markup import Html, element
from nnscan.report.material import Material, ModelFolder
from nnscan.report.picture import Picture
from nnscan.report.predictions import probability_histogram, reliability
from nnscan.report.sections.section import Section
from nnscan.report.testing import told_by
from nnscan.results.predictions import Predictions, class_accuracy, confusion


def section(material: Material) -> Section:
    """Return the figures of the test set, or how to get them."""
    parts: list[Html | Picture] = []
    for model in material.models:
        told = told_by(model)
        if told:
            parts += [element("h3", f"{model.family}: {told.accuracy:.2%} of {len(told.labels):,} right")]
            parts += list(_which(material, model))
            parts += list(_predictions(model, told))
    if not parts:
        text = "No winner has been retrained and tested yet. Confusion matrices, calibration and pictures come after: "
        command = shlex.join(["nnscan", "retrain-best", str(material.folder.path)])
        parts.append(element("p", text, element("code", command)))
    return Section(anchor="test", title="The test set", parts=tuple(parts))


def _which(material: Material, model: ModelFolder) -> Iterator[Html]:
    """Say which network is shown, where the winner was retrained more than once."""
    key = model.card["configuration"]["key"]
    often = max((one.replicates for one in material.summary.retrained if one.configuration == key), default=1)
    if often > 1:
        yield element("p", f"Shown is the first of {often} retrained networks, the one that is kept.", class_="note")


def _predictions(model: ModelFolder, told: Predictions) -> Iterator[Picture]:
    counts = confusion(told)
    right = class_accuracy(counts)
    yield Picture(
        name=f"confusion.{model.family}",
        alt=f"Matrix of confusions of {model.family}: {np.trace(counts):,} of {counts.sum():,} on the diagonal.",
        caption=f"Confusions of {model.family}: counts; the shade is the fraction of the true class.",
        draw=partial(draw_confusion, counts, told.classes),
    )
    yield Picture(
        name=f"class_accuracy.{model.family}",
        alt=f"Accuracy of each class of {model.family}: "
        + ", ".join(f"{name} {value:.3f}" for name, value in zip(told.classes, right, strict=True)),
        caption=f"Accuracy of each class, {model.family}.",
        draw=partial(draw_class_accuracy, right, counts.sum(axis=1), told.classes),
    )
    trust = reliability(told.confidences, told.correct)
    yield Picture(
        name=f"reliability.{model.family}",
        alt=f"Accuracy over confidence of {model.family} in {len(trust.counts)} bins; expected calibration error"
        f" {trust.error:.4f}.",
        caption=f"Reliability of {model.family}, {len(trust.counts)} bins (Guo et al. 2017). Points below the dashed"
        " line: surer than right.",
        draw=partial(draw_reliability, trust),
    )
    yield _histogram(model, told)


def _histogram(model: ModelFolder, told: Predictions) -> Picture:
    true = told.true_probabilities
    counts, edges = probability_histogram(true)
    wrong, _ = probability_histogram(true[told.correct == 0])
    return Picture(
        name=f"probabilities.{model.family}",
        alt=f"Histogram of the probability that {model.family} gives the true class; median {np.median(true):.3f}.",
        caption=f"What {model.family} gives the true class: {len(counts)} bins, logarithmic counts.",
        draw=partial(draw_probabilities, counts, edges, wrong),
    )


def pictures_section(material: Material) -> Section | None:
    """Return the pictures of the test set; None where no model has any."""
    parts: list[Html | Picture] = []
    shown: set[tuple[int, ...]] = set()
    for model in material.models:
        found = [*_pictures(model), *_of_classes(model, shown), *_activations(model)]
        parts += [element("h3", model.family), *found] if found else []
    return Section(anchor="pictures", title="Pictures of the test set", parts=tuple(parts)) if parts else None


def _pictures(model: ModelFolder) -> Iterator[Picture]:
    if model.examples is None or not len(model.examples):
        return
    worst = examples(model.examples, WORST)
    gallery = examples(model.examples, GALLERY)
    if worst:
        yield _sheet(
            f"worst.{model.family}",
            f"The {len(worst)} pictures that {model.family} gives the smallest probability of their true class: as"
            " stored, and below as the network sees them, after the transform.",
            partial(draw_worst, worst),
        )
    if gallery:
        right = sum(example.right for example in gallery)
        yield _sheet(
            f"gallery.{model.family}",
            f"{len(gallery)} pictures drawn at random, with what {model.family} predicts: {right} are right.",
            partial(draw_gallery, gallery),
        )


def _of_classes(model: ModelFolder, shown: set[tuple[int, ...]]) -> Iterator[Picture]:
    """Pictures of each class, where they are not those of a model before: `shown` has their places in the test set."""
    found = examples(model.examples, CLASS) if model.examples is not None else []
    places = tuple(example.index for example in found)
    if places and places not in shown:
        shown.add(places)
        groups = by_class(found, model.classes)
        yield _sheet(f"classes.{model.family}", "Pictures of each class.", partial(draw_classes, groups), wide=False)


def _activations(model: ModelFolder) -> Iterator[Html | Picture]:
    try:
        found = activations(model)
    except NnscanError as error:
        yield element("p", f"There are no maps of where {model.family} looked: {error}", class_="note")
        return
    if found:
        yield _sheet(
            f"activations.{model.family}",
            f"Where {model.family} looked: the picture, the map of the predicted class, both. Above: predicted"
            " (confidence) | true. The map is the class activation map where the network averages one map a class, else"
            f" Grad-CAM of its last convolution.{_blank(found)}",
            partial(draw_activations, found),
        )


def _blank(found: Sequence[Activation]) -> str:
    if all(one.map.any() for one in found):
        return ""
    return " A map without a bright place: nothing in that convolution speaks for the class."


def _sheet(name: str, text: str, draw: partial, *, wide: bool = True) -> Picture:  # type: ignore[type-arg]
    return Picture(name=name, alt=text, caption=text, draw=draw, pixels=True, width=100 if wide else 50)
