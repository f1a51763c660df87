"""Writes TOML: the standard library reads it only. The inverse of `tomllib.loads` for what a scan file holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def value(content: Any) -> str:
    """Return a string, number, boolean, list or dict of these as a TOML value, on one line."""
    if isinstance(content, str):
        # JSON escapes what a basic string must escape, but for DEL, which TOML does not allow as it is.
        return json.dumps(content, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(content, bool | int | float):
        return json.dumps(content)
    if isinstance(content, Mapping):
        return "{" + ", ".join(f"{key([name])} = {value(item)}" for name, item in content.items()) + "}"
    if isinstance(content, list | tuple):
        return "[" + ", ".join(map(value, content)) + "]"
    raise TypeError(f"{content!r} has no place in a TOML file of nnscan.")


def key(path: list[str] | tuple[str, ...]) -> str:
    """Return a dotted key, quoted where it must be."""
    return ".".join(part if _BARE_KEY.fullmatch(part) else value(part) for part in path)


def table(header: str, lines: Mapping[tuple[str, ...], Any]) -> str:
    """Return a table: its header, then a line for each dotted key."""
    return "\n".join([header, *(f"{key(path)} = {value(content)}" for path, content in lines.items())]) + "\n"
