"""Files that users name: by a path, or by the bare name of one in a folder beside, or of one that comes with nnscan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def shipped(packaged: Path) -> Path:
    """Return the folder of files that come with nnscan: in the package, in a checkout beside it."""
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / packaged.name


def places(name: str, folders: Sequence[Path]) -> list[Path]:
    """Return where a file of the bare name `name` may lie: NAME.toml in each of `folders`."""
    return [folder / f"{name.removesuffix('.toml')}.toml" for folder in folders]


def first(paths: Iterable[Path], accepts: Callable[[Path], bool]) -> Path | None:
    """Return the first of `paths` that `accepts` takes; None where it takes none."""
    return next((path for path in paths if _is_taken(path, accepts)), None)


def _is_taken(path: Path, accepts: Callable[[Path], bool]) -> bool:
    try:
        return accepts(path)
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False


def names(folders: Sequence[Path]) -> list[str]:
    """Return the bare names of the files in `folders`, sorted."""
    return sorted({path.stem for folder in folders for path in folder.glob("*.toml")})


def text_of(path: Path, kind: str, example: str, most_kb: int) -> str:
    """Return the text of a file; ValueError where it cannot be a `kind`, such as "scan file", with what is wrong."""
    try:
        if not path.is_file():
            raise ValueError(f"is no file: name a {kind}, such as {example}.")
        if path.stat().st_size > most_kb * 2**10:
            most = f"{most_kb} kB" if most_kb < 2**10 else f"{most_kb // 2**10} MB"
            raise ValueError(f"is larger than {most}: this is no {kind}.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"is no UTF-8 text (byte {error.start}): {kind}s are TOML.") from error
