import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nnscan.dotted import (
    code_fingerprint,
    dotted_paths,
    is_dotted,
    load_function,
    make_importable,
    signature_of,
)
from nnscan.errors import ScanError

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a module that can be imported, for this test alone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, text: str) -> None:
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        make_importable(tmp_path)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "dotted"),
    [
        ("a:b", True),
        ("my.models:net", True),
        ("my.models:Net.build", True),
        ("torchvision.models:resnet18", True),
        ("torchvision:resnet18", False),
        ("mlp", False),
        ("a:", False),
        (":b", False),
        ("a:b\n", False),
        ("a b:c", False),
        ("a:b:c", False),
        ("../x:f", False),
        ("", False),
    ],
)
def test_is_dotted(name: str, dotted: bool) -> None:
    assert is_dotted(name) is dotted


def test_a_function_of_the_working_folder_is_loaded(write: Write) -> None:
    write(
        "dotted_one", "def double(x):\n    return 2 * x\nclass Net:\n    @staticmethod\n    def half(x): return x / 2\n"
    )
    assert load_function("dotted_one:double")(4) == 8
    assert load_function("dotted_one:Net.half")(4) == 2


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("dotted_absent:f", "ModuleNotFoundError"),
        ("dotted_two:absent", "AttributeError"),
        ("dotted_two:number", "int, which cannot be called"),
        ("dotted_broken:f", "ZeroDivisionError"),
        ("dotted_exits:f", "SystemExit"),
        ("dotted_syntax:f", "SyntaxError"),
    ],
)
def test_what_cannot_be_loaded_is_told(write: Write, path: str, told: str) -> None:
    write("dotted_two", "number = 3\n")
    write("dotted_broken", "1 / 0\n")
    write("dotted_exits", "raise SystemExit(3)\n")
    write("dotted_syntax", "def f(:\n")
    with pytest.raises(ScanError, match=told):
        load_function(path)


def test_signature_of_a_function() -> None:
    def function(a, b=2, *args, c, d=None, **others):
        return a, b, args, c, d, others

    signature = signature_of(function)
    assert signature.required == ("a", "c")
    assert signature.defaults == {"b": 2, "d": None}
    assert signature.takes_any


def test_signature_of_a_class_is_that_of_its_constructor() -> None:
    class Net:
        def __init__(self, width=3):
            self.width = width

    signature = signature_of(Net)
    assert (signature.required, dict(signature.defaults), signature.takes_any) == ((), {"width": 3}, False)


def test_a_function_that_wants_an_argument_by_position_is_refused() -> None:
    def function(a, /):
        return a

    with pytest.raises(ScanError, match="by name"):
        signature_of(function)


def test_a_function_that_tells_no_signature_takes_any_argument() -> None:
    assert signature_of(dict).takes_any


def test_dotted_paths_of_settings() -> None:
    settings = {"data": {"name": "b:f"}, "model": {"name": "a:g"}, "training": {"epochs": 1}}
    assert dotted_paths(settings) == ["a:g", "b:f"]
    assert dotted_paths({"data": {"name": "digits"}, "model": {"name": "torchvision:resnet18"}}) == []
    assert dotted_paths({"data": {}, "model": {}, "training": {"function": "t:f"}}) == ["t:f"]
    assert dotted_paths({"data": {}, "model": {}, "task": {"name": "l:Loss"}, "training": {}}) == ["l:Loss"]


def test_code_fingerprint_follows_the_source(write: Write) -> None:
    write("dotted_three", "def f(): return 1\n")
    settings = {"model": {"name": "dotted_three:f"}}
    before = code_fingerprint(settings)
    assert len(before) == 32
    assert code_fingerprint(settings) == before
    write("dotted_three", "def f(): return 2\n")
    assert code_fingerprint(settings) != before
    assert code_fingerprint({"data": {"name": "dotted_three:f"}, "model": {"name": "mlp"}}) == code_fingerprint(
        settings
    )


def test_code_fingerprint_does_not_run_the_module(write: Write) -> None:
    write("dotted_four", "raise RuntimeError('was run')\n")
    assert len(code_fingerprint({"model": {"name": "dotted_four:f"}})) == 32


def test_code_fingerprint_is_the_same_in_another_folder(write: Write, tmp_path: Path) -> None:
    write("dotted_five", "def f(): return 1\n")
    before = code_fingerprint({"model": {"name": "dotted_five:f"}})
    other = tmp_path / "snapshot"
    other.mkdir()
    (other / "dotted_five.py").write_text("def f(): return 1\n")
    (tmp_path / "dotted_five.py").unlink()
    make_importable(other)
    assert code_fingerprint({"model": {"name": "dotted_five:f"}}) == before


def test_code_fingerprint_of_nnscans_own_parts_is_empty() -> None:
    assert code_fingerprint({"data": {"name": "digits"}, "model": {"name": "mlp"}, "training": {"epochs": 1}}) == ""


def test_code_fingerprint_of_a_module_that_is_gone_is_an_error() -> None:
    with pytest.raises(ScanError, match="source file"):
        code_fingerprint({"model": {"name": "dotted_gone.deep:f"}})
