from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys

import pytest

import nnscan

NAMES = sorted(nnscan.__all__)


def test_names_are_sorted_and_few() -> None:
    assert nnscan.__all__ == NAMES
    assert len(NAMES) <= 17


def test_every_public_name_is_exported() -> None:
    modules = {module.name for module in pkgutil.iter_modules(nnscan.__path__)}
    public = {name for name in dir(nnscan) if not name.startswith("_")} | {"__version__"}
    plumbing = {"annotations", "import_module", "TYPE_CHECKING"}
    assert public - modules - plumbing == set(NAMES)


def test_no_submodule_shadows_a_name() -> None:
    assert {module.name for module in pkgutil.iter_modules(nnscan.__path__)} & set(NAMES) == set()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_every_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(nnscan, name))


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lanch'; it has: NnscanError"):
        nnscan.lanch  # noqa: B018


@pytest.mark.parametrize("statement", ["import nnscan", "import nnscan.api", "import nnscan.cli", "nnscan.summarize"])
def test_import_loads_neither_torch_nor_ray(statement: str) -> None:
    code = f"import nnscan, sys; {statement}; print(sorted({{'torch', 'ray', 'sklearn'}} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
