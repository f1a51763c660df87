"""What the hyperparameters do: marginal means, weights of losses, and the grid as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from nnscan.report.coordinates import Coordinates, coordinates
from nnscan.report.drawing.coordinates import draw_coordinates
from nnscan.report.drawing.effects import draw_effect, draw_weights
from nnscan.report.effects import AxisEffect, WeightEffect, axis_effects, score_range, weight_effects
from nnscan.report.markup import Html, element
from nnscan.report.material import Material
from nnscan.report.picture import Picture
from nnscan.report.sections.section import Section

NARROW = 4
"""Up to so many axes the view of a grid needs half of the page."""


def section(material: Material) -> Section | None:
    """Return what each axis does; None where nothing varies among complete configurations."""
    pictures = [*_effects(material), *_weights(material), *_coordinates(material)]
    if not pictures:
        return None
    note = (
        "Each point is the mean score of all complete configurations that share a value, and its bar their standard"
        " deviation: a spread over configurations, which tells what else matters, not how sure the mean is. Good values"
        " of other hyperparameters can hide in a bad mean: the view of the grid, below, shows them."
    )
    return Section(anchor="grid", title="Effects of the hyperparameters", parts=(element("p", note), *pictures))


def _effects(material: Material) -> Iterator[Picture]:
    effects = [effect for effect in axis_effects(material.families) if not _is_weight_alone(effect, material)]
    for effect in effects:
        yield _effect(effect, material.summary.metric, score_range(effects))


def _is_weight_alone(effect: AxisEffect, material: Material) -> bool:
    """Whether each mean is of one configuration, and the figure of the weights shows the same with its spread."""
    alone = all(count == 1 for series in effect.series for count in series.counts)
    return alone and all(
        any(shown.paths == (effect.path,) for shown in weight_effects(family))
        for family in material.families
        if family.name in {series.family for series in effect.series}
    )


def _effect(effect: AxisEffect, metric: str, limits: tuple[float, float]) -> Picture:
    families = ", ".join(series.family for series in effect.series)
    return Picture(
        name=f"marginal.{effect.path.replace(', ', '+')}",
        alt=f"Mean {metric} at each value of {effect.path}, of {families}. {_told(effect)}",
        caption=f"{effect.path}: mean {metric}, ± one standard deviation over configurations.",
        draw=partial(draw_effect, effect, metric, limits),
    )


def _told(effect: AxisEffect) -> str:
    """The means as words."""
    return "; ".join(
        f"{series.family}: "
        + ", ".join(f"{value} {mean:.4g}" for value, mean in zip(series.values, series.means, strict=True))
        for series in effect.series
    )


def _weights(material: Material) -> Iterator[Picture]:
    for family in material.families:
        for effect in weight_effects(family):
            yield _weight(effect, material.summary.metric)


def _weight(effect: WeightEffect, metric: str) -> Picture:
    path = ", ".join(effect.paths)
    points = ", ".join(f"{mean:.4g}" for mean in effect.means)
    return Picture(
        name=f"weights.{effect.family}.{path.replace(', ', '+')}",
        alt=f"Mean {metric} over {path} of {effect.family}: {points}.",
        caption=f"Weights of the losses of {effect.family}: mean {metric} ± one standard deviation over the"
        f" {effect.n} trials of a configuration; everything else is as the winner has it.",
        draw=partial(draw_weights, effect, metric),
    )


def _coordinates(material: Material) -> Iterator[Html | Picture]:
    for family in material.families:
        view = coordinates(family, smallest=material.summary.smallest)
        if view:
            yield _view(view, material.summary.metric)


def _view(view: Coordinates, metric: str) -> Picture:
    return Picture(
        name=f"grid.{view.family}",
        alt=f"Parallel coordinates of {len(view.scores)} configurations of {view.family}: one line each, through"
        f" {', '.join(axis.path for axis in view.axes)} to {metric}, coloured by it.",
        caption=f"The grid of {view.family}: a line a configuration, the better its {metric}, the darker. Lines through"
        " one value (a thick bar) lie side by side, the better the higher.",
        draw=partial(draw_coordinates, view, metric),
        width=100 if len(view.axes) > NARROW else 50,
    )
