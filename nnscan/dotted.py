"""A user's own functions, named in a scan file as "package.module:function"."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from inspect import Parameter
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from nnscan.errors import Problem, ScanError
from nnscan.trial import Settings

PATTERN = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
"""What a dotted path looks like; the part after the colon may be a method of a class."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Which keyword arguments a function takes."""

    required: tuple[str, ...]
    """Those without a default."""

    defaults: Mapping[str, Any]
    """The others, with their defaults."""

    takes_any: bool
    """True of `**kwargs`, and of functions that tell no signature."""

    @property
    def names(self) -> tuple[str, ...]:
        """All names, the required ones first."""
        return (*self.required, *self.defaults)


def is_dotted(name: str) -> bool:
    """Return whether `name` is a dotted path; a name of torchvision's, which has a colon too, is none."""
    return not name.startswith("torchvision:") and re.fullmatch(PATTERN, name) is not None


def make_importable(folder: Path) -> None:
    """Put `folder` first on the import path, for good: modules in it are found by their names."""
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
    invalidate_caches()  # a module written since the folder was last listed would not be found


_imported: WeakKeyDictionary[ModuleType, bytes] = WeakKeyDictionary()
"""Sources of the modules of users' functions, as they were when this process imported them."""


def load_function(path: str) -> Callable[..., Any]:
    """Import and return the function that `path` ("package.module:function") names.

    Raises
    ------
    ScanError
        Where the module cannot be imported, whatever it throws, or holds no such function.
    """
    module, _, name = path.partition(":")
    try:
        function: Any = import_module(module)
        if function not in _imported:
            _imported[function] = _source(path)
        for part in name.split("."):
            function = getattr(function, part)
    except (Exception, SystemExit) as error:  # a script without a __main__ guard may well call sys.exit
        raise _unusable(path, f"cannot be imported: {_told(error)}. {_where_looked(module)}") from error
    if not callable(function):
        raise _unusable(path, f"is {type(function).__name__}, which cannot be called: name a function or a class.")
    return function  # type: ignore[no-any-return]


def _unusable(path: str, message: str) -> ScanError:
    return ScanError(path, [Problem(path, message)])


def _told(error: BaseException) -> str:
    """Return an error as one line of readable length."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")


def _where_looked(module: str) -> str:
    file = module.replace(".", "/") + ".py"
    return f"Modules are looked for in the working folder ({file} there) and among the installed packages"


def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the keyword arguments that `function` takes.

    Raises
    ------
    ScanError
        Where it cannot be called with keyword arguments alone.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions tell none
        return Signature(required=(), defaults={}, takes_any=True)
    for parameter in parameters:
        if parameter.kind is Parameter.POSITIONAL_ONLY and parameter.default is Parameter.empty:
            name = getattr(function, "__name__", "the function")
            raise _unusable(name, f"takes {parameter.name!r} by position alone; nnscan passes arguments by name.")
    named = [p for p in parameters if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)]
    return Signature(
        required=tuple(p.name for p in named if p.default is Parameter.empty),
        defaults={p.name: p.default for p in named if p.default is not Parameter.empty},
        takes_any=any(p.kind is Parameter.VAR_KEYWORD for p in parameters),
    )


def dotted_paths(settings: Settings) -> list[str]:
    """Return the dotted paths that a configuration names, sorted, each once."""
    return sorted(set(_dotted_paths(settings)))


def _dotted_paths(settings: Settings) -> Iterator[str]:
    names = [settings.get(section, {}).get("name", "") for section in ("data", "model", "task")]
    names.append(settings.get("training", {}).get("function", ""))
    return (name for name in names if is_dotted(name))


def code_fingerprint(settings: Settings) -> str:
    """Return what identifies a user's code: 32 hex digits over the source files of the dotted paths; "" without any.

    Of each path the file of its module alone; what that imports is the user's to keep still.

    Raises
    ------
    ScanError
        Where a module has no source file that can be read.
    """
    return source_fingerprint(dotted_paths(settings))


def source_fingerprint(paths: Sequence[str]) -> str:
    """Return `code_fingerprint` of configurations that name the dotted paths `paths`, sorted."""
    if not paths:
        return ""
    digest = blake2b(digest_size=16)
    for path in paths:
        digest.update(blake2b(path.encode()).digest() + blake2b(_source(path)).digest())
    return digest.hexdigest()


def refuse_stale(paths: Iterable[str]) -> None:
    """Raise ScanError where a source file has changed since this process imported it: the old code would run."""
    for path in paths:
        module = sys.modules.get(path.partition(":")[0])
        if module is not None and _imported.get(module, b"") not in (b"", _source(path)):
            raise _unusable(path, "its file has changed since this Python imported it: start Python anew, then launch.")


def _source(path: str) -> bytes:
    """Return the source file of the module in `path`, found without running that module."""
    try:
        spec = find_spec(path.partition(":")[0])
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError("no such module, or one without a file")
        return Path(spec.origin).read_bytes()
    except (Exception, SystemExit) as error:  # finding a submodule imports its package, which may throw anything
        raise _unusable(path, f"its source file cannot be read: {_told(error)}.") from error
