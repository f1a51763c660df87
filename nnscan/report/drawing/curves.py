"""Curves over epochs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnscan.report.curves import Band, MeanCurves, WinnerCurves
from nnscan.report.drawing.style import BLUE, COLORS, DASHES, GREY, VERMILLION, name_above, short, single
from nnscan.results.selection import Flags, Floats

MANY_POINTS = 20_000
"""From so many on lines are stored as pixels: an SVG of them would take longer to draw than to read."""

FAR = 20.0
"""Where the largest positive value is so many times the median, the axis is logarithmic."""

WORDS = {"train": "training", "val": "validation", "test": "test"}


def metric_words(metric: str) -> str:
    """Return a metric's name as words: "val_accuracy" is "validation accuracy"."""
    first, *others = metric.split("_")
    return " ".join([WORDS.get(first, first), *others])


def draw_curves(curves: MeanCurves, family: str, members: Flags, winner: str) -> Figure:
    """Return the curves of all configurations, those of a family in colour, all others grey.

    Parameters
    ----------
    members : array of shape (C,), bool
        Which of the curves are the family's.
    winner : str
        Key of the family's winner, drawn on top; "" for none.
    """
    figure, axes = single(6.0, 3.8)
    dense = curves.values.size > MANY_POINTS
    others = int((~members).sum())
    if others:
        axes.add_collection(_lines(curves.values[~members], GREY, 0.6, max(0.35, _opacity(others)), dense=dense))
        axes.plot([], [], color=GREY, label=f"other families ({others:,})")
    shown = int(members.sum())
    axes.add_collection(_lines(curves.values[members], BLUE, 0.9, _opacity(shown), dense=dense))
    axes.plot([], [], color=BLUE, label=f"{family} ({shown:,})")
    if winner in curves.configurations:
        curve = curves.values[curves.configurations.index(winner)]
        axes.plot(curve, color=VERMILLION, linewidth=2.2, label=f"winner of {family}", zorder=5)
    _frame(axes, curves.values)
    axes.set(xlabel="epoch", ylabel=metric_words(curves.metric))
    name_above(figure)
    return figure


def _lines(values: Floats, color: str, width: float, opacity: float, *, dense: bool) -> LineCollection:
    points = [np.column_stack([np.flatnonzero(np.isfinite(row)), row[np.isfinite(row)]]) for row in values]
    return LineCollection(points, colors=color, linewidths=width, alpha=opacity, rasterized=dense)


def _opacity(count: int) -> float:
    """Return how dense a line is drawn: where hundreds lie on each other, the densest part shows where most are."""
    return float(np.clip(3 / np.sqrt(max(count, 1)), 0.1, 0.9))


def _frame(axes: Axes, values: Floats) -> None:
    """Set limits that hold every curve; a logarithmic axis where few values are far from all others."""
    known = values[np.isfinite(values)]
    axes.autoscale_view()
    if len(known) and known.min() > 0 and known.max() > FAR * np.median(known):
        axes.set_yscale("log")
    last = max(values.shape[1] - 1, 1)
    axes.set_xlim(0, last * 1.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_winner(curves: WinnerCurves) -> Figure:
    """Return the curves of a winner in training and validation, mean and spread, with the best epoch marked."""
    figure, axes = single(6.0, 3.6)
    for index, band in enumerate(curves.bands):
        _band(axes, band, index)
    best = f"{curves.best_value:.4f}, epoch {curves.best_epoch}"
    label = f"best {metric_words(curves.metric)} of {short(curves.family)}: {best}"
    axes.axvline(curves.best_epoch, color="black", linestyle=":", linewidth=1.4, label=label)
    _frame(axes, np.stack([band.mean for band in curves.bands]))
    axes.set(xlabel="epoch", ylabel="loss")
    name_above(figure)
    return figure


def _band(axes: Axes, band: Band, index: int) -> None:
    epochs = np.arange(len(band.mean))
    color = COLORS[index % len(COLORS)]
    marker = "ox"[index % 2]
    axes.plot(
        *(epochs, band.mean),
        color=color,
        linestyle=DASHES[index % len(DASHES)],
        marker=marker,
        markersize=3.5,
        label=metric_words(band.name),
        markevery=max(1, len(epochs) // 25),
    )
    least = 0.0 if np.nanmin(band.mean) >= 0 else -np.inf  # a loss that is never negative has no band below 0
    low = np.maximum(band.mean - band.std, least)
    axes.fill_between(epochs, low, band.mean + band.std, color=color, alpha=0.15, linewidth=0)
