"""The Markdown pages of the project, taken apart for tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("slurm/*.md")])

RUNS = "<!-- runs -->"
"""Stands in the line above an example that the tests run."""

_BLOCK = re.compile(rf"(?P<runs>{RUNS}\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# (\w+\.(?:py|toml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced example of a page."""

    language: str
    text: str
    runs: bool

    @property
    def file(self) -> str:
        """Name of the file that it shows: a comment in its first line; "" where there is none."""
        named = _NAME.match(self.text)
        return named[1] if named else ""


def blocks(page: Path) -> list[Block]:
    return [Block(one["language"], one["text"], bool(one["runs"])) for one in _BLOCK.finditer(page.read_text())]


def write_files(page: Path, folder: Path) -> None:
    """Write the files that a page shows into `folder`."""
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text)


def code_lines(page: Path) -> Iterator[str]:
    """Yield the lines of all examples, fenced and indented, and what stands between single backticks."""
    text = page.read_text()
    for block in blocks(page):
        yield from block.text.splitlines()
    text = _BLOCK.sub("", text)
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))
    yield from (code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", text))


def tables(text: str) -> Iterator[list[list[str]]]:
    """Yield the cells of each table, its head and the line below it left out."""
    for found in re.findall(r"(?:^\|.*\|\n)+", text + "\n", re.MULTILINE):
        rows = [re.split(r" *\| *", line.strip()[1:-1].strip()) for line in found.splitlines()]
        yield rows[2:]


def links(page: Path) -> list[str]:
    """Return where the links of a page lead, other sites left out."""
    text = _BLOCK.sub("", page.read_text())
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """Return what `#...` may name in a page, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
