"""Sheets of pictures: the worst before and after the transform, galleries, class activation maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnscan.report.activations import Activation
from nnscan.report.drawing.style import GREEN, VERMILLION, sheet, short
from nnscan.report.examples import Example, Pixels
from nnscan.results.selection import Floats

COLUMNS = 8
TITLE = 7
"""Points of the text above a picture."""


def draw_worst(worst: Sequence[Example]) -> Figure:
    """Return the pictures that the network is most wrong about, each above what the network sees of it."""
    columns = min(len(worst), COLUMNS)
    rows = -(-len(worst) // columns)
    figure, axes = sheet(2 * rows, columns, (1.3, 1.62))
    for place, example in enumerate(worst):
        above = 2 * (place // columns) * columns + place % columns
        true = f"true: {short(example.label, 15)}\np = {_probability(example.true_probability)}"
        said = f"said: {short(example.prediction, 15)}\np = {_probability(example.probability)}"
        _show(axes[above], example.image, true)
        _show(axes[above + columns], example.input, said)
    for row in range(2 * rows):
        _name_row(axes[row * columns], "as stored" if row % 2 == 0 else "as seen")
    return figure


def _probability(value: float) -> str:
    return f"{value:.3f}" if value >= 1e-3 else f"{value:.0e}"


def draw_gallery(examples: Sequence[Example]) -> Figure:
    """Return pictures with what the network predicts and what they are."""
    columns = min(len(examples), COLUMNS)
    figure, axes = sheet(-(-len(examples) // columns), columns, (1.3, 1.62))
    for panel, example in zip(axes, examples, strict=False):
        sign, color = _verdict(example)
        text = f"predicted: {short(example.prediction, 13)}\nactual: {short(example.label, 14)} {sign}"
        _show(panel, example.image, text, color)
    return figure


def _verdict(example: Example) -> tuple[str, str]:
    """A sign and a colour that say whether the prediction is right."""
    return ("✓", GREEN) if example.right else ("✗", VERMILLION)


def draw_classes(groups: Mapping[str, Sequence[Example]]) -> Figure:
    """Return some pictures of each class, a row a class."""
    columns = max(map(len, groups.values()))
    figure, axes = sheet(len(groups), columns, (1.15, 1.15))
    for row, (name, members) in enumerate(groups.items()):
        for column, example in enumerate(members):
            _show(axes[row * columns + column], example.image, "")
        _name_row(axes[row * columns], short(name, 16))
    return figure


def draw_activations(found: Sequence[Activation]) -> Figure:
    """Return for each picture the picture, the map of its predicted class, and the one over the other."""
    pairs = 2 if len(found) > 3 else 1
    rows = -(-len(found) // pairs)
    figure, axes = sheet(rows, 3 * pairs, (1.5, 1.72), group=3)
    for place, one in enumerate(found):
        left, middle, right = axes[3 * place : 3 * place + 3]
        example = one.example
        sign, color = _verdict(example)
        title = f"{short(example.prediction, 20)} ({example.probability:.3f}) | {short(example.label, 20)} {sign}"
        _show(left, example.image, "")
        _show(middle, one.map, title, color, cmap="viridis")
        middle.title.set_fontsize(TITLE + 2)
        _show(right, example.image, "")
        height, width = example.image.shape[:2]
        # where it does not look the picture stays visible
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        right.imshow(one.map, cmap="viridis", alpha=0.2 + 0.6 * one.map, vmin=0, vmax=1, extent=extent)
    return figure


def _show(axes: Axes, image: Pixels | Floats, title: str, color: str = "black", cmap: str = "gray") -> None:
    white = 255 if image.dtype == np.uint8 else 1
    axes.imshow(
        image, cmap=cmap, interpolation="nearest" if max(image.shape) <= 64 else "antialiased", vmin=0, vmax=white
    )
    axes.set_title(title, fontsize=TITLE, color=color, pad=3)


def _name_row(axes: Axes, name: str) -> None:
    axes.text(-0.05, 0.5, name, transform=axes.transAxes, rotation=90, ha="right", va="center", fontsize=TITLE + 1)
