"""A section of the page."""

from __future__ import annotations

from dataclasses import dataclass

from nnscan.report.markup import Html
from nnscan.report.picture import Picture


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page with a heading of its own."""

    anchor: str
    title: str
    parts: tuple[Html | Picture, ...]
    """Figures that follow each other stand side by side where there is room."""
