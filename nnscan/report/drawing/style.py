"""How every figure looks: sizes, colours that colour-blind people tell apart, and how a figure becomes a file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"),
)
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
"""Okabe and Ito 2008, "Color Universal Design"; without yellow, which is faint on paper."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
"""Beside colour, so that series are told apart in grey, too."""

GREY = "#9a9a9a"
SEQUENTIAL = "viridis"
"""Even to the eye, and in grey."""

DPI = 160
"""Of PNGs: sharp on a screen with two pixels to a point, and in print."""

QUALITY = 90
"""Of WebPs, of 100."""

NAMES_INCHES = 0.45
"""At the left of a sheet, for the names of its rows."""

GAP_INCHES = 0.35

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8,
    "legend.framealpha": 0.85,
    "lines.linewidth": 1.4,
    "svg.fonttype": "path",
    "svg.hashsalt": "nnscan",
}


def styled() -> AbstractContextManager[None]:
    """Return a context in which figures are made and saved with the report's settings, and with those alone."""
    return matplotlib.style.context(STYLE, after_reset=True)


def panels(rows: int, columns: int, size: tuple[float, float], **shared: Any) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of rows x columns panels, each of `size` inches, and its axes row by row."""
    figure = Figure(figsize=(columns * size[0], rows * size[1]))
    axes = figure.subplots(rows, columns, squeeze=False, **shared)
    return figure, list(axes.flat)


def sheet(
    rows: int, columns: int, size: tuple[float, float], group: int | None = None
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure of rows x columns pictures, each of `size` inches with what is written above it, and their axes.

    Every `group` columns there is a gap. Placed by hand: matplotlib takes seconds to find places for dozens of panels.
    """
    gaps = [GAP_INCHES * (column // (group or columns)) for column in range(columns)]
    width, height = columns * size[0] + NAMES_INCHES + gaps[-1], rows * size[1]
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("none")
    axes = figure.subplots(rows, columns, squeeze=False)
    side = 0.94 * size[0]
    for place, panel in enumerate(axes.flat):
        row, column = divmod(place, columns)
        left, bottom = NAMES_INCHES + column * size[0] + gaps[column], height - (row + 1) * size[1] + 0.02
        panel.set_position((left / width, bottom / height, side / width, side / height))
        panel.set_axis_off()
    return figure, list(axes.flat)


def single(width: float = 7.0, height: float = 3.6) -> tuple[Figure, Axes]:
    """Return a figure of one panel, in inches, and its axes."""
    figure, axes = panels(1, 1, (width, height))
    return figure, axes[0]


def name_above(figure: Figure, columns: int = 4) -> None:
    """Name the lines of a figure above its panel, where they hide nothing."""
    figure.legend(loc="outside upper center", ncols=columns, frameon=False, columnspacing=1.2, handlelength=2.2)


def to_png(figure: Figure) -> bytes:
    """Return a figure as a PNG."""
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=DPI, metadata={"Software": None})
    return sink.getvalue()


def to_webp(png: bytes) -> bytes:
    """Return a PNG as WebP: of photographs a sixth of its size, and to the eye the same."""
    from PIL import Image

    sink = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").save(sink, "WEBP", quality=QUALITY)
    return sink.getvalue()


def to_svg(figure: Figure) -> bytes:
    """Return a figure as SVG: text as paths, so that it looks the same without the font; no date, so that equal
    figures are equal files."""
    sink = io.BytesIO()
    figure.savefig(sink, format="svg", dpi=DPI, metadata={"Date": None})
    return sink.getvalue()


def short(text: str, length: int = 22) -> str:
    """Return `text`, its middle left out where it is longer than `length`; a dollar begins no formula in it."""
    half = (length - 1) // 2
    cut = text if len(text) <= length else f"{text[: length - 1 - half]}…{text[-half:]}"
    return cut.replace("$", r"\$")  # parse_math=False would do away with the powers of ten on logarithmic axes
