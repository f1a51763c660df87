"""The code that a launch was started with, copied into its folder: jobs that wait for days run what was submitted.

The Python files of the working folder, and nnscan itself where it is not installed but used from a checkout. The
environment is not copied: its versions are compared when a job starts.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import nnscan
from nnscan.errors import Problem, ScanError
from nnscan.results.folder import told

GIT_SECONDS = 30.0
MOST_FILES = 20_000
"""More is no project of one's own but a disk: a home folder outside of git, say."""

PASSED_OVER = {"node_modules", "site-packages", "__pycache__"}


def take(home: Path, target: Path) -> tuple[Path, ...]:
    """Copy the code into `target` and return the folders that modules are imported from, first to last.

    Those are `target` itself, and its counterparts of further folders of the import path below `home` (a `src`).

    Parameters
    ----------
    home : Path
        The working folder: its Python files are copied, those that git ignores left out.
    target : Path
        A folder that does not exist yet.

    Raises
    ------
    ScanError
        Where `home` holds more than 20,000 Python files.
    StoreError
        Where the copy cannot be written.
    """
    files = python_files(home)
    with told(target):
        target.mkdir(parents=True)
        _copy(home, files, target)
        package = Path(nnscan.__file__).parent
        if not _is_installed(package) and not (target / package.name / "__init__.py").exists():
            _copy(package.parent, (path for path in python_files(package.parent) if path.parts[0] == "nnscan"), target)
    return target, *_counterparts(home, target, sys.path)


def python_files(folder: Path) -> list[Path]:
    """Return the Python files below `folder`, relative to it: tracked and untracked ones where git knows it, else all.

    What begins with a dot, and virtual environments, are passed over.
    """
    found = _known_to_git(folder)
    files = _walked(folder) if found is None else (path for path in found if (folder / path).is_file())
    counted = []
    for path in files:
        counted.append(path)
        if len(counted) > MOST_FILES:
            message = (
                f"holds more than {MOST_FILES:,} Python files, which a launch copies for its jobs. Launch from the"
            )
            raise ScanError("working folder", [Problem(str(folder), f"{message} folder of your project.")])
    return sorted(counted)


def _known_to_git(folder: Path) -> Iterator[Path] | None:
    """Return what git tells of `folder`, None where it is no checkout or there is no git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.py"]
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(  # noqa: S603
            command, cwd=folder, capture_output=True, timeout=GIT_SECONDS, check=True
        )
        return (Path(os.fsdecode(name)) for name in done.stdout.split(b"\0") if name)
    return None


def _walked(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_passed_over(Path(here, name))]
        yield from (Path(here, name).relative_to(folder) for name in names if name.endswith(".py"))


def _is_passed_over(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.name in PASSED_OVER or (folder / "pyvenv.cfg").exists()


def _copy(home: Path, files: Iterable[Path], target: Path) -> None:
    for path in files:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(home / path, target / path)


def _is_installed(package: Path) -> bool:
    return package.is_relative_to(sysconfig.get_path("purelib"))


def _counterparts(home: Path, target: Path, path: Sequence[str]) -> Iterator[Path]:
    """Yield the copies of the folders of an import path that lie below `home`, less those of environments."""
    for entry in map(Path, path):
        inside = entry.is_absolute() and entry.is_relative_to(home) and entry != home
        if inside and (target / entry.relative_to(home)).is_dir():
            yield target / entry.relative_to(home)
