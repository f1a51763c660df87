from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {
    "sklearn": "scikit-learn",
    "PIL": "pillow",
    "annotated_types": "pydantic",
    "pydantic_core": "pydantic",
    "google": "tensorboard",
}
"""Of modules that have another name, or are part of another package's interface."""


def imported() -> Iterator[str]:
    """Yield the top module of every import in the package."""
    for path in (ROOT / "nnscan").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).split(".")[0]


def declared(extra: str = "") -> set[str]:
    """Return the names of the dependencies, or of an extra's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    dependencies = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {re.split(r"[\[>=<]", dependency)[0] for dependency in dependencies}


def test_what_is_imported_is_declared() -> None:
    others = set(imported()) - set(sys.stdlib_module_names) - {"nnscan"}
    assert {DISTRIBUTIONS.get(name, name) for name in others} - declared() - declared("wandb") == set()


def test_what_ci_installs_has_the_extras() -> None:
    assert declared("wandb") <= declared("dev")


def test_every_dependency_has_a_line_that_says_why() -> None:
    explained = re.findall(r"^\| ([a-z-]+)", (ROOT / "docs" / "dependencies.md").read_text(), flags=re.MULTILINE)
    assert sorted(set(explained) - {"package", "---"}) == sorted(declared())
