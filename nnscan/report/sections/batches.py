"""What was recorded of single steps: accuracy of batches, norms of gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pyarrow.compute as pc

from nnscan.report.drawing.steps import draw_batch_accuracy, draw_gradient_norms
from nnscan.report.effects import switches
from nnscan.report.material import Material
from nnscan.report.picture import Picture
from nnscan.report.sections.section import Section
from nnscan.report.steps import StepCurve, Steps, steps
from nnscan.results import store
from nnscan.results.leaderboard import FamilySummary, Leader
from nnscan.results.wording import KEY_DIGITS, short_names, value_text

SPANNED = ("batch_norm", "skip", "skip_connections")
"""Switches that change how gradients flow: norms are shown for each combination."""

PANELS = 4
"""Configurations whose norms are shown where no such switch is an axis: the best ones."""


def section(material: Material) -> Section | None:
    """Return figures over single steps; None where none were recorded (`training.steps`)."""
    chosen = {family.name: _chosen(family) for family in material.families}
    told = _steps(material, [leader for members in chosen.values() for leader in members.values()])
    parts = [
        part
        for family in material.families
        for part in (*_accuracy(family, told), *_norms(family, chosen[family.name], told))
    ]
    return Section(anchor="steps", title="Step by step", parts=tuple(parts)) if parts else None


def _chosen(family: FamilySummary) -> dict[str, Leader]:
    """The configurations whose steps are shown, under the title of their panel."""
    paths = [path for path in switches(family) if path.split(".")[-1] in SPANNED]
    if not paths:
        return {_title(family, leader): leader for leader in family.leaders[:PANELS]}
    found: dict[str, Leader] = {}
    for leader in family.leaders:  # the best of each combination comes first
        found.setdefault(_switched(leader, paths), leader)
    return dict(sorted(found.items()))


def _title(family: FamilySummary, leader: Leader) -> str:
    names = short_names(family.axes)
    values = ", ".join(f"{names[path]} {value_text(value)}" for path, value in leader.hyperparameters.items())
    return values or leader.configuration[:KEY_DIGITS]


def _switched(leader: Leader, paths: Sequence[str]) -> str:
    words = (f"{path.split('.')[-1]} {'yes' if leader.hyperparameters[path] else 'no'}" for path in paths)
    return ", ".join(words)


def _steps(material: Material, leaders: Sequence[Leader]) -> dict[str, Steps]:
    """The steps of the first trial of each configuration, by the configuration's key, where they were recorded."""
    first = {trials[0]: leader for leader in leaders if (trials := material.trials_of(leader.configuration))}
    table = store.read_steps(material.folder, list(first))
    found = {}
    for trial, leader in first.items():
        told = steps(table.filter(pc.equal(table["trial"], trial)))
        if told:
            found[leader.configuration] = told
    return found


def _accuracy(family: FamilySummary, told: Mapping[str, Steps]) -> Iterator[Picture]:
    winner = told.get(family.winner.configuration) if family.winner else None
    if winner and winner.accuracy:
        yield _accuracy_picture(family.name, winner, winner.accuracy)


def _accuracy_picture(family: str, told: Steps, accuracy: StepCurve) -> Picture:
    return Picture(
        name=f"batch_accuracy.{family}",
        alt=f"Training accuracy of each of {len(accuracy.values):,} batches of the winner of {family}, with"
        f" {len(told.epochs)} epochs marked.",
        caption=f"Training accuracy of each batch, winner of {family}, one trial; dotted lines: where an epoch begins.",
        draw=partial(draw_batch_accuracy, told, accuracy),
        width=100,
    )


def _norms(family: FamilySummary, chosen: Mapping[str, Leader], told: Mapping[str, Steps]) -> Iterator[Picture]:
    shown = {title: told[leader.configuration] for title, leader in chosen.items() if leader.configuration in told}
    shown = {title: one for title, one in shown.items() if one.gradient_norms}
    if shown:
        yield Picture(
            name=f"gradient_norms.{family.name}",
            alt=f"Norms of gradients of {family.name} over batches, logarithmic, {len(shown)} panels:"
            f" {'; '.join(shown)}.",
            caption=f"Norm of the gradient of each weight tensor of {family.name}, one trial a panel, from the input"
            " (dark) to the output (bright); below 1e-6 it is drawn at 1e-6.",
            draw=partial(draw_gradient_norms, shown),
            width=100,
        )
