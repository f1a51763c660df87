"""Where a launch came from, for people: who, where, with what, and from which state of the code."""

from __future__ import annotations

import getpass
import platform
import shlex
import socket
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnscan.version import __version__

GIT_SECONDS = 5.0  # a checkout on a slow network file system shall not hold a launch up
PACKAGES = ("torch", "torchvision", "ray", "numpy", "pyarrow")


def provenance() -> dict[str, str]:
    """Return who launched, where, when, with which versions, from which commit."""
    return {
        "command": command_line(),
        "user": _user(),
        "host": socket.gethostname(),
        "time": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "nnscan": __version__,
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := package_version(name))},
        **{name: found for name, found in (("commit", _git("rev-parse", "HEAD")),) if found},
    }


def command_line() -> str:
    """Return the command that runs, as a shell takes it."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def package_version(name: str) -> str:
    """Return the version of an installed package, "" where it is not there; without importing it."""
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def code_changes() -> str:
    """Return what the working folder's checkout has changed since its commit, "" outside of one."""
    return _git("diff", "HEAD")


def _git(*arguments: str) -> str:
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)  # noqa: S603
        return done.stdout.strip()
    return ""


def _user() -> str:
    with suppress(KeyError, OSError):  # a container may run under a number without a name
        return getpass.getuser()
    return ""
