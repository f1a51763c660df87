"""What hyperparameters do: marginal means with their spread, and the weights of losses."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnscan.report.drawing.curves import metric_words
from nnscan.report.drawing.style import BLUE, COLORS, DASHES, MARKERS, name_above, short, single
from nnscan.report.effects import AxisEffect, Series, WeightEffect
from nnscan.results.selection import Floats
from nnscan.results.wording import value_text

BESIDE_ON_LINES, BESIDE = 0.06, 0.16
"""Shares of the distance between two values by which the next series stands beside. A line is read at its value."""


def draw_effect(effect: AxisEffect, metric: str, limits: tuple[float, float]) -> Figure:
    """Return the mean score at each value of an axis, a series a family, with the spread over configurations."""
    figure, axes = single(4.9, 3.3)
    for index, series in enumerate(effect.series):
        places = _places(effect, series, index)
        line = DASHES[series.place % len(DASHES)] if effect.numeric else "none"
        axes.errorbar(
            *(places, series.means),
            yerr=np.nan_to_num(np.array(series.stds)),
            color=COLORS[series.place % len(COLORS)],
            marker=MARKERS[series.place % len(MARKERS)],
            linestyle=line,
            markersize=5,
            capsize=3,
            linewidth=1.2,
            label=series.family,
        )
    _name_values(axes, effect)
    axes.set(xlabel=effect.path, ylabel=f"mean {metric_words(metric)}", ylim=limits)
    name_above(figure, min(len(effect.series), 4))
    return figure


def _places(effect: AxisEffect, series: Series, index: int) -> Floats:
    """Where the values of a series stand: at their places, or side by side with those of other series."""
    distance = min(BESIDE_ON_LINES if effect.numeric else BESIDE, 0.5 / len(effect.series))
    shift = (index - (len(effect.series) - 1) / 2) * distance
    if not effect.in_place:
        return np.array([effect.values.index(value) + shift for value in series.values])
    values = np.array(series.values, dtype=np.float64)
    between = len(effect.values) - 1
    if effect.logarithmic:
        found: Floats = values * (max(effect.values) / min(effect.values)) ** (shift / between)
    else:
        found = values + shift * (max(effect.values) - min(effect.values)) / between
    return found


def _name_values(axes: Axes, effect: AxisEffect) -> None:
    if effect.logarithmic:
        axes.set_xscale("log")
        if len(effect.values) <= 8:
            axes.set_xticks(list(effect.values), [f"{value:g}" for value in effect.values])
            axes.minorticks_off()
        return
    if effect.in_place:
        return
    texts = [value_word(value) for value in effect.values]
    long = max(map(len, texts)) * len(texts) > 48
    axes.set_xticks(range(len(texts)), texts, rotation=35 if long else 0, ha="right" if long else "center")
    axes.set_xlim(-0.6, len(texts) - 0.4)
    axes.grid(visible=False, axis="x")


def value_word(value: object) -> str:
    """Return a value as short as a tick takes."""
    if isinstance(value, tuple):
        return short(", ".join(value_word(one) for one in value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else short(value_text(value))


def draw_weights(effect: WeightEffect, metric: str) -> Figure:
    """Return mean and spread over trials at each weight of a loss, all else as the winner has it."""
    figure, axes = single(6.0, 3.4)
    places = np.arange(len(effect.values))
    axes.errorbar(
        *(places, effect.means),
        yerr=np.nan_to_num(np.array(effect.stds)),
        color=BLUE,
        marker="o",
        capsize=3,
        linewidth=1.2,
    )
    texts = [", ".join(value_word(value) for value in values) for values in effect.values]
    long = max(map(len, texts)) * len(texts) > 60
    axes.set_xticks(places, texts, rotation=35 if long else 0, ha="right" if long else "center")
    axes.set(xlabel=", ".join(effect.paths), ylabel=metric_words(metric), title=effect.family)
    return figure
