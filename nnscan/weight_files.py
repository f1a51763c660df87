"""Files of weights that a scan file names: in settings they are known by their content, wherever they lie."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnscan.errors import Problem
from nnscan.leaves import Document, Leaf
from nnscan.options.declared import KeyPath, show

DIGEST = "sha256:"

NO_PATHS: dict[KeyPath, re.Pattern[str]] = {
    ("model", "weights"): re.compile(r"none|sha256:.*|[A-Z][A-Z0-9_]*"),
    ("training", "warm_start"): re.compile(r"none|sha256:.*"),
}
"""The options that take a file of weights, and what of their values is no path."""

ACCEPTED = "a file of weights (.pt, .pth, .safetensors) or a model folder, as `nnscan retrain-best` leaves it"


def resolve(document: Document, problems: list[Problem]) -> dict[str, Path]:
    """Put "sha256:..." in the place of every path to weights, and return the files by their SHA-256, 64 hex digits.

    A relative path starts at the working folder, as a relative `data.root` does. What cannot be read is added to
    `problems`.
    """
    files: dict[str, Path] = {}
    for leaves in (document.base, *(table.leaves for table in document.grids)):
        for path in NO_PATHS.keys() & leaves.keys():
            leaf = leaves[path]
            values = [_resolved(*one, files, problems) for one in _values(leaf)]
            leaves[path] = replace(leaf, value=values if leaf.is_axis else values[0])
    return files


def names(files: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of `resolve` by what stands in settings for them."""
    return {DIGEST + digest: path for digest, path in files.items()}


def _values(leaf: Leaf) -> Iterator[tuple[KeyPath, Any, str]]:
    """Yield path, value and place of each value of a leaf."""
    if not leaf.is_axis:
        yield leaf.path, leaf.value, leaf.where
    else:
        yield from ((leaf.path, value, f"{leaf.where}[{index}]") for index, value in enumerate(leaf.value))


def _resolved(path: KeyPath, value: Any, where: str, files: dict[str, Path], problems: list[Problem]) -> Any:
    """Return what stands for `value` in settings."""
    if not isinstance(value, str) or NO_PATHS[path].fullmatch(value):
        return value
    try:
        file = _file(Path(value).expanduser().absolute())
        digest = _digest(file, file.stat().st_mtime_ns)
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL; RuntimeError: ~ of nobody
        problems.append(Problem(where, f"found {show(value)}: {_told(error, value)}"))
        return "none"  # so that the option itself is not told of, too
    files[digest] = file
    return DIGEST + digest


def _file(path: Path) -> Path:
    """Return the file of weights that `path` means."""
    if not path.is_dir():
        return path
    if not (path / "model.json").is_file():
        raise ValueError(f"is a folder without model.json; accepted: {ACCEPTED}.")
    return path / "model.safetensors"


@lru_cache(maxsize=64)
def _digest(file: Path, changed_ns: int) -> str:  # noqa: ARG001
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _told(error: Exception, value: str) -> str:
    if isinstance(error, FileNotFoundError):
        others = (
            "" if value.endswith((".pt", ".pth", ".safetensors")) else ', "none", or a name such as "IMAGENET1K_V1"'
        )
        where = "" if Path(value).is_absolute() else f" below {Path.cwd()}"
        return f"no such file{where}; accepted: {ACCEPTED}{others}."
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}."
    return str(error)
