"""The grid of a family as parallel coordinates."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from nnscan.report.coordinates import BAND, Coordinates
from nnscan.report.drawing.curves import metric_words
from nnscan.report.drawing.effects import value_word
from nnscan.report.drawing.style import SEQUENTIAL, single
from nnscan.results.wording import short_names

PALEST = 0.93
"""Of the colours, the share that is used: the last are too pale on white."""

DENSE = 150
"""From so many lines on they are stored as pixels."""


def draw_coordinates(view: Coordinates, metric: str) -> Figure:
    """Return a line a configuration through its value on each axis to its score; better ones are dark, and on top."""
    count = len(view.axes)
    figure, axes = single(max(6.5, 1.35 * (count + 1)), 4.0)
    span = view.high - view.low
    ends = (view.scores - view.low) / span if span else np.full(len(view.scores), 0.5)
    heights = np.column_stack([view.heights, ends])
    places = np.arange(count + 1)
    shades = _shades(view)
    axes.add_collection(
        LineCollection(
            [np.column_stack([places, row]) for row in heights],
            array=view.scores,
            cmap=shades.cmap,
            norm=shades.norm,
            linewidths=1.1,
            alpha=0.75,
            rasterized=len(heights) > DENSE,
        )
    )
    _uprights(axes, view)
    bar = figure.colorbar(shades, ax=axes, pad=0.02, aspect=30)
    bar.set_label(metric_words(metric))
    if view.high < view.low:
        bar.ax.invert_yaxis()
    axes.set_title(f"{view.family}: {len(heights):,} configurations")
    return figure


def _shades(view: Coordinates) -> ScalarMappable:
    """The colours of scores, best the darkest: on white a line of the other end hardly shows."""
    dark_last = mpl.colormaps[SEQUENTIAL](np.linspace(PALEST, 0, 256))
    norm = Normalize(min(view.low, view.high), max(view.low, view.high))
    return ScalarMappable(norm, ListedColormap(dark_last if view.high >= view.low else dark_last[::-1]))


def _uprights(axes: Axes, view: Coordinates) -> None:
    """Draw the axes with their names and values."""
    names = short_names([axis.path for axis in view.axes])
    for place, axis in enumerate(view.axes):
        axes.axvline(place, color="black", linewidth=0.8)
        reach = BAND / 2 / len(axis.values)
        axes.vlines([place] * len(axis.values), axis.places - reach, axis.places + reach, color="black", linewidth=2.4)
        for height, value in zip(axis.places, axis.values, strict=True):
            _write(axes, place, float(height), value_word(value))
    end = len(view.axes)
    axes.axvline(end, color="black", linewidth=0.8)
    for height in (0.0, 0.5, 1.0):
        _write(axes, end, height, f"{view.low + height * (view.high - view.low):.4g}")
    axes.set_xticks(range(end + 1), [*(names[axis.path].replace(".", ".\n") for axis in view.axes), "score"])
    axes.set(xlim=(-0.25, end + 0.25), ylim=(-0.04, 1.04))
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _write(axes: Axes, place: float, height: float, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 0.8}
    axes.text(place, height, text, ha="center", va="center", fontsize=8, bbox=box, zorder=6)
