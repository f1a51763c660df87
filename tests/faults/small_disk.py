"""A small file system in a mount namespace of its own, for tests that fill it or make it read-only."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Disk:
    """A file system of 1 MB at `path`, seen only by the processes that `enter` starts."""

    path: Path
    home: Path
    """Working folder of the processes."""
    holder: int
    """Lives as long as the file system."""

    @property
    def enter(self) -> tuple[str, ...]:
        """What stands in front of a command."""
        return ("nsenter", f"--target={self.holder}", "--mount", "--", "env", f"--chdir={self.home}")

    @property
    def seen_here(self) -> Path:
        """Where its files are for this process."""
        return Path(f"/proc/{self.holder}/root{self.path}")

    def run(self, *command: str) -> None:
        subprocess.run([*self.enter, *command], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """Mount one in `folder`; skips the test where that is not allowed."""
    path, home = folder / "disk", folder / "home"
    path.mkdir()
    home.mkdir()
    if not (shutil.which("unshare") and shutil.which("nsenter")):
        pytest.skip("needs unshare and nsenter (util-linux)")
    script = 'mount -t tmpfs -o size=1m none "$0" && echo mounted && exec cat'
    command = ["unshare", "--mount", "sh", "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        try:
            if holder.stdout.readline() != b"mounted\n":
                pytest.skip("mounting a file system needs root")
            yield Disk(path, home, holder.pid)
        finally:
            holder.stdin.close()
