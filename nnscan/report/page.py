"""The page: one file that needs nothing else, neither a network nor a folder beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnscan.report.markup import Html, element, joined
from nnscan.report.picture import Drawn, Picture
from nnscan.report.sections.section import Section
from nnscan.version import __version__

HERE = Path(__file__).parent

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Lets the browser ask nobody for anything: what the page shows stands in it."""


def page(title: str, sections: Sequence[Section], drawn: Mapping[str, Drawn]) -> str:
    """Return the page as HTML.

    Parameters
    ----------
    title : str
        Name of the scan.
    sections : sequence of Section
        In their order.
    drawn : mapping
        Each figure of the sections by its name.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content=f"nnscan {__version__}"),
        element("title", f"{title}: nnscan report"),
        element("link", rel="icon", href="data:,"),  # else a browser asks the server for one
        element("style", Html(_file("page.css"))),
    )
    body = element(
        "body",
        element("header", element("h1", title), _contents(sections)),
        element("main", joined(_section(section, drawn) for section in sections)),
        element("script", Html(_file("page.js"))),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _contents(sections: Sequence[Section]) -> Html:
    links = (element("a", section.title, href=f"#{section.anchor}") for section in sections)
    return element("nav", *links, aria_label="Contents")


def _section(section: Section, drawn: Mapping[str, Drawn]) -> Html:
    return element(
        "section", element("h2", section.title), *_gathered(section, drawn), id=section.anchor, aria_label=section.title
    )


def _gathered(section: Section, drawn: Mapping[str, Drawn]) -> Sequence[Html]:
    """The parts of a section; figures that follow each other in a row of their own."""
    parts: list[Html] = []
    row: list[Html] = []
    for part in (*section.parts, Html("")):
        if isinstance(part, Picture):
            row.append(_figure(drawn[part.name]))
            continue
        if row:
            parts.append(element("div", *row, class_="figures"))
            row = []
        parts.append(part)
    return parts


def _figure(drawn: Drawn) -> Html:
    width, height = drawn.size
    image = element("img", src=drawn.source, alt=drawn.picture.alt, width=width, height=height)
    caption = element("figcaption", drawn.picture.caption)
    wide = "wide" if drawn.picture.width == 100 else False
    return element("figure", image, caption, class_=wide, id=f"figure-{drawn.picture.name}")
