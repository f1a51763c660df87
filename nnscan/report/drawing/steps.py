"""What was recorded of single steps: accuracy of each batch, norms of gradients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnscan.report.drawing.style import BLUE, SEQUENTIAL, VERMILLION, panels, short, single
from nnscan.report.steps import StepCurve, Steps
from nnscan.results.selection import Floats

FLOOR = 1e-6
"""Norms below are drawn here: a dead layer has none, which no logarithmic axis shows."""

MANY_POINTS = 20_000
MARKS = 25
"""Epochs that are named at most."""

LEGEND = 14
"""Lines that a legend names; of more the first and the last."""


def draw_batch_accuracy(steps: Steps, accuracy: StepCurve) -> Figure:
    """Return the accuracy of each batch, with a mark where each epoch begins."""
    figure, axes = single(8.0, 3.4)
    dense = len(accuracy.values) > MANY_POINTS
    axes.plot(accuracy.values, color=BLUE, linewidth=0.5, alpha=0.6, label="each batch", rasterized=dense)
    window = max(1, len(accuracy.values) // (4 * len(steps.starts)))
    if window > 1:
        axes.plot(smooth(accuracy.values, window), color=VERMILLION, label=f"mean of {window} batches")
    _mark_epochs(axes, steps)
    axes.set(xlabel="batch", ylabel="training accuracy of the batch", xlim=(0, len(accuracy.values)))
    axes.legend(loc="lower right")
    return figure


def smooth(values: Floats, window: int) -> Floats:
    """Return the mean of each `window` successive values, at their middle; NaN where they are not complete."""
    sums = np.convolve(values, np.ones(window), "valid") / window
    smoothed = np.full(len(values), np.nan)
    first = window // 2
    smoothed[first : first + len(sums)] = sums
    return smoothed


def _mark_epochs(axes: Axes, steps: Steps) -> None:
    every = -(-len(steps.starts) // MARKS)
    top = axes.get_xaxis_transform()
    for index, (start, epoch) in enumerate(zip(steps.starts, steps.epochs, strict=True)):
        axes.axvline(start, color="#555555", linestyle=":", linewidth=0.7)
        if index % every == 0:
            axes.text(start, 1.01, f" E{epoch}", transform=top, fontsize=7, ha="left", va="bottom")


def draw_gradient_norms(trials: Mapping[str, Steps]) -> Figure:
    """Return the norm of the gradient of each weight tensor at each step, a panel a training, by its title."""
    columns = min(len(trials), 2)
    figure, axes = panels(-(-len(trials) // columns), columns, (4.6, 3.0), sharex=True, sharey=True)
    looks = _looks(trials.values())
    for panel, (title, steps) in zip(axes, trials.items(), strict=False):
        _draw_norms(panel, steps, looks)
        panel.set_title(title, fontsize=9, parse_math=False)
    for panel in axes[len(trials) :]:
        panel.set_axis_off()
    for panel in axes[-columns:]:
        panel.set_xlabel("batch")
    for panel in axes[::columns]:
        panel.set_ylabel("norm of the gradient")
    _name_lines(figure, axes)
    return figure


def _looks(trials: Iterable[Steps]) -> dict[str, dict[str, Any]]:
    """Colour and dashes of each weight tensor, the same in all panels; in the order of the largest network."""
    longest, *others = sorted(([curve.name for curve in one.gradient_norms] for one in trials), key=len, reverse=True)
    names = list(dict.fromkeys([*longest, *(name for other in others for name in other)]))
    shades = mpl.colormaps[SEQUENTIAL](np.linspace(0, 0.92, len(names)))
    dashes = ("-", "--", "-.")
    return {name: {"color": shades[index], "linestyle": dashes[index % 3]} for index, name in enumerate(names)}


def _draw_norms(axes: Axes, steps: Steps, looks: Mapping[str, Mapping[str, Any]]) -> None:
    curves = steps.gradient_norms
    for curve in curves:
        norms = np.maximum(curve.values, FLOOR)
        dense = norms.size * len(curves) > MANY_POINTS
        name = short(curve.name.removesuffix(".weight"), 30)
        axes.plot(norms, **looks[curve.name], linewidth=0.9, label=name, rasterized=dense)
    axes.set_yscale("log")


def _name_lines(figure: Figure, axes: Sequence[Axes]) -> None:
    """Name the lines of all panels once, beside them."""
    handles = [panel.get_legend_handles_labels() for panel in axes]
    found = sorted((list(zip(names, lines, strict=True)) for lines, names in handles), key=len, reverse=True)
    named = {name: line for panel in found for name, line in panel}  # in the order of the largest network
    names = list(named)
    if len(names) > LEGEND:
        names = [*names[: LEGEND // 2], *names[-LEGEND // 2 :]]
    title = "input" if len(names) == len(named) else f"first and last of {len(named)}"
    figure.legend([named[name] for name in names], names, loc="outside right upper", title=f"{title} to output")
