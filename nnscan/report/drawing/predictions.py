"""What a winner says of the test set: confusions, classes, calibration, probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from nnscan.report.drawing.style import BLUE, SKY, VERMILLION, name_above, panels, short, single
from nnscan.report.predictions import Reliability
from nnscan.results.selection import Floats, Integers

NUMBERED = 20
"""Up to so many classes each cell of a confusion matrix has its number."""

NAMED = 60
"""Up to so many classes are named."""


def draw_confusion(counts: Integers, classes: Sequence[str]) -> Figure:
    """Return counts by true class (rows) and predicted class; shades are fractions of the true class."""
    count = len(classes)
    side = float(np.clip(0.42 * count + 1.9, 3.2, 11.0))
    figure, axes = single(side + 0.8, side)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.where(totals, totals, 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, shrink=0.8, format=PercentFormatter(1.0), label="of the true class")
    if count <= NUMBERED:
        for (row, column), number in np.ndenumerate(counts):
            color = "white" if shares[row, column] > 0.55 else "black"
            if number:
                axes.text(column, row, f"{number:,}", ha="center", va="center", fontsize=7.5, color=color)
    if count <= NAMED:
        names = [short(name, 16) for name in classes]
        axes.set_xticks(range(count), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(count), names)
    axes.set(xlabel="predicted", ylabel="true")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def draw_class_accuracy(fractions: Floats, counts: Integers, classes: Sequence[str]) -> Figure:
    """Return a bar a class: the fraction that was told right, with the number of examples."""
    height = float(np.clip(0.24 * len(classes) + 1.0, 1.8, 14.0))
    figure, axes = single(5.0, height)
    places = np.arange(len(classes))
    axes.barh(places, np.nan_to_num(fractions), color=SKY, height=0.7)
    if len(classes) <= NAMED:
        axes.set_yticks(places, [f"{short(name)} ({number:,})" for name, number in zip(classes, counts, strict=True)])
        for place, fraction in enumerate(fractions):
            text = "no example" if np.isnan(fraction) else f"{fraction:.1%}"
            axes.text(np.nan_to_num(fraction) - 0.01, place, text, ha="right", va="center", fontsize=7.5)
    axes.set(xlim=(0, 1), xlabel="accuracy of the class (in brackets: its examples)")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    return figure


def draw_reliability(told: Reliability) -> Figure:
    """Return accuracy over confidence, bin by bin, above the number of examples in each bin."""
    figure = Figure(figsize=(4.4, 4.6))
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = np.diff(told.edges)
    top.bar(told.edges[:-1], np.nan_to_num(told.accuracies), width, align="edge", color=SKY, edgecolor="white")
    top.plot([0, 1], [0, 1], color="black", linestyle="--", linewidth=1, label="perfectly calibrated")
    top.plot(told.confidences, told.accuracies, "o", color=VERMILLION, markersize=4, label="mean confidence of a bin")
    top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy", title=f"Expected calibration error {told.error:.4f}")
    name_above(figure, 2)
    bottom.bar(told.edges[:-1], told.counts, width, align="edge", color=BLUE, edgecolor="white")
    bottom.set(xlabel="confidence: probability of the prediction", ylabel="examples")
    _count_on(bottom)
    return figure


def _count_on(axes: Axes) -> None:
    """Make the y axis a logarithmic one of counts: a single example has height, decades alone have numbers."""
    axes.set_yscale("log")
    axes.set_ylim(0.7, max(axes.get_ylim()[1], 12))
    axes.yaxis.set_minor_formatter(NullFormatter())


def draw_probabilities(counts: Integers, edges: Floats, wrong: Integers) -> Figure:
    """Return the histogram of the probability of the true class, wrong predictions apart; the y axis is logarithmic."""
    figure, (axes,) = panels(1, 1, (6.0, 3.3))
    axes.stairs(counts, edges, fill=True, color=SKY, label=f"all ({counts.sum():,})")
    axes.stairs(wrong, edges, color=VERMILLION, linewidth=1.3, label=f"wrong ({wrong.sum():,})")
    _count_on(axes)
    axes.set(xlim=(0, 1), xlabel="probability of the true class", ylabel="examples")
    axes.legend(loc="upper center")
    return figure
