"""A figure of the report: how it is drawn, what it says, and how it becomes a file or a part of the page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from nnscan.report.drawing.style import styled, to_png, to_svg, to_webp

PIXELS_AN_INCH = 92
"""Of a figure in the page: its text is then about as large as the page's."""

BYTES_OF_SVG = 300_000
"""A larger SVG stands in the page as PNG, where that is smaller: browsers draw thousands of lines slowly."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure before it is drawn."""

    name: str
    """Of its files, without ending."""
    alt: str
    """What it shows, for who does not see it."""
    caption: str
    """What to know for reading it."""
    draw: Callable[[], Figure]
    pixels: bool = False
    """Whether it consists of photographs or shades: it stands in the page as WebP or PNG, whichever is smaller."""
    width: int = 0
    """Of its place in the page, in per cent; 0: half of it."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A figure as files."""

    picture: Picture
    files: Mapping[str, bytes]
    """Content by ending: `svg`, `png`, `webp`."""
    shown: str
    """Ending of the one that stands in the page."""
    size: tuple[int, int]
    """Width and height in the page, in its pixels."""

    @property
    def source(self) -> str:
        """The figure as an address that holds all of it."""
        kind = "svg+xml" if self.shown == "svg" else self.shown
        return f"data:image/{kind};base64,{base64.b64encode(self.files[self.shown]).decode()}"


def drawn(picture: Picture, *, every: bool = False) -> Drawn:
    """Return a figure, drawn in the format that the page shows: SVG unless it consists of pixels, or is large.

    Parameters
    ----------
    every : bool
        As PNG and SVG, too.
    """
    with styled():
        figure = picture.draw()
        files = {"svg": to_svg(figure)} if every or not picture.pixels else {}
        if every or picture.pixels or len(files["svg"]) > BYTES_OF_SVG:
            files["png"] = to_png(figure)
        if picture.pixels:
            files["webp"] = to_webp(files["png"])
    width, height = figure.get_size_inches() * PIXELS_AN_INCH
    return Drawn(picture=picture, files=files, shown=_shown(picture, files), size=(round(width), round(height)))


def _shown(picture: Picture, files: Mapping[str, bytes]) -> str:
    """The ending of the file that stands in the page."""
    if picture.pixels:
        return min(("png", "webp"), key=lambda ending: len(files[ending]))
    large = BYTES_OF_SVG < len(files["svg"]) > len(files["png"]) if "png" in files else False
    return "png" if large else "svg"
