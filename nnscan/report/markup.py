"""HTML put together from elements: text that comes from a scan cannot become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable

VOID = frozenset({"br", "img", "input", "link", "meta"})
"""Elements without an end tag."""


class Html(str):
    """Text that is markup already; any other text is escaped where it stands in an element."""


def element(name: str, /, *children: str, **attributes: str | float | bool) -> Html:
    """Return an element.

    Parameters
    ----------
    name : str
        Of the element, such as "td".
    children : str
        Markup as `Html`; all else is text, and is escaped.
    attributes : str, number or bool
        `class_` and `for_` lose their underscore, any other becomes a hyphen. True stands alone, False is left out.

    Examples
    --------
    >>> element("td", "a < b", class_="number", hidden=True)
    '<td class="number" hidden>a &lt; b</td>'
    """
    told = "".join(_attribute(key, value) for key, value in attributes.items() if value is not False)
    inside = "".join(child if isinstance(child, Html) else html.escape(child, quote=False) for child in children)
    return Html(f"<{name}{told}>" if name in VOID else f"<{name}{told}>{inside}</{name}>")


def _attribute(key: str, value: str | float | bool) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def joined(parts: Iterable[Html]) -> Html:
    """Return pieces of markup, one after the other."""
    return Html("\n".join(parts))


def paragraph(text: str, **attributes: str) -> Html:
    """Return a paragraph of text."""
    return element("p", text, **attributes)
