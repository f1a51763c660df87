"""Runs Slurm's commands: argument lists, a time limit, and an environment that changes no answer."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from nnscan.errors import LauncherError

COMMAND_SECONDS = 20.0
"""A controller that is away is told of after 9 s with the usual MessageTimeout of 10 s; one that hangs, never."""

_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT", "SLURM_CLUSTERS")
"""How a client finds its cluster and who it is. All else describes the allocation that the shell may stand in."""

_OF_AN_ALLOCATION = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SQUEUE_", "SINFO_", "SALLOC_")


class SlurmError(LauncherError):
    """A command of Slurm failed; its text is what the command said."""


def run(command: list[str], *, given: str = "", seconds: float = COMMAND_SECONDS) -> str:
    """Run a command of Slurm, `given` on its standard input, and return what it printed.

    Raises
    ------
    SlurmError
        Where it is not there, fails, or takes longer than `seconds`: one line that names the command.
    """
    name = command[0]
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=given,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            env=environment(),
            check=False,
        )
    except FileNotFoundError:
        raise SlurmError(f"{name}: there is no such command on the PATH") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"{name}: no answer within {seconds:g} s") from None
    except OSError as error:
        raise SlurmError(f"{name}: {error.strerror or error}") from error
    if done.returncode:
        raise SlurmError(f"{name}: {_said(done.stderr or done.stdout) or f'exit status {done.returncode}'}")
    return done.stdout


def present(name: str) -> bool:
    """Return whether a command of Slurm is on the PATH."""
    return shutil.which(name) is not None


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables (those of this process) without those that change what a command of Slurm does.

    A launch from within an allocation would hand its limits on to its jobs, and SQUEUE_STATES hides jobs. The length
    of task lists is set to "whole": by default squeue cuts them after 64 characters.
    """
    kept = {name: value for name, value in (variables or os.environ).items() if not _changes(name)}
    return {**kept, "SLURM_BITSTR_LEN": "0"}


def _changes(name: str) -> bool:
    return name.startswith(_OF_AN_ALLOCATION) and name not in _KEPT


@contextmanager
def clean_environment() -> Iterator[None]:
    """Let what runs in the block, submitit above all, see `environment()`, and put back the present one after it."""
    before = dict(os.environ)
    clean = environment()
    for name in before.keys() - clean.keys():
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def _said(text: str) -> str:
    """Return the words of Slurm in one line: each once, without the name of the command before it."""
    lines = (line.strip() for line in text.splitlines())
    told = (line.split(": ", 2)[-1] if ": error: " in line else line for line in lines if line)
    return "; ".join(dict.fromkeys(told))
