"""How the configurations learned: curves over epochs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from nnscan.report.curves import MeanCurves, WinnerCurves, mean_curves
from nnscan.report.drawing.curves import draw_curves, draw_winner
from nnscan.report.markup import Html, element
from nnscan.report.material import Material
from nnscan.report.picture import Picture
from nnscan.report.sections.section import Section
from nnscan.report.winners import winner_curves
from nnscan.results.leaderboard import FamilySummary
from nnscan.results.selection import Flags
from nnscan.results.wording import configurations_have


def section(material: Material) -> Section | None:
    """Return the curves of all configurations and the losses of the winners; None where no trial completed."""
    metrics = list(dict.fromkeys([material.summary.metric, *_accuracy(material)]))
    epochs = material.epochs(metrics)
    if not len(material.completed) or not len(epochs):
        return None
    parts: list[Html | Picture] = []
    for metric in metrics:
        found = mean_curves(material.completed, epochs, metric)
        parts += [_curves(found, material, family) for family in material.families if family.leaders]
    parts += list(_missing(material))
    parts += list(_losses(material))
    return Section(anchor="curves", title="Learning curves", parts=tuple(parts))


def _accuracy(material: Material) -> list[str]:
    return [name for name in ("val_accuracy",) if name in material.metrics]


def _curves(found: MeanCurves, material: Material, family: FamilySummary) -> Picture:
    members = material.members(family.name)
    flags: Flags = np.array([key in members for key in found.configurations], dtype=bool)
    winner = family.winner.configuration if family.winner else ""
    return Picture(
        name=f"curves.{found.metric}.{family.name}",
        alt=f"Lines of mean {found.metric} over epochs: {flags.sum()} configurations of {family.name} in colour, its"
        f" winner bold, {(~flags).sum()} of other families grey.",
        caption=f"{found.metric} of every configuration, mean over its completed trials; a trial that stopped early is"
        " carried on from its last value.",
        draw=partial(draw_curves, found, family.name, flags, winner),
        width=100 if len(material.families) == 1 else 50,
    )


def _missing(material: Material) -> Iterator[Html]:
    configurations = sum(family.configurations for family in material.families)
    there = len(set(material.completed["configuration"].to_pylist()))
    if there < configurations:
        text = f"{configurations_have(configurations - there)} no completed trial, and no curve."
        yield element("p", text, class_="note")


def _losses(material: Material) -> Iterator[Picture]:
    for family in material.families:
        found = winner_curves(material, family)
        if found:
            yield _loss(found)


def _loss(found: WinnerCurves) -> Picture:
    over = f"mean of {found.n} trials, the band one standard deviation" if found.n > 1 else "one trial"
    return Picture(
        name=f"losses.{found.family}",
        alt=f"Training and validation loss of the winner of {found.family} over epochs; a dotted line marks epoch"
        f" {found.best_epoch}, where its {found.metric} is best with {found.best_value:.4f}.",
        caption=f"Losses of the winner of {found.family}, {over}. Dotted: the best epoch of its mean {found.metric}.",
        draw=partial(draw_winner, found),
    )
