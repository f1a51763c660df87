"""Where a trial is trained: what its launch and its worker decide, none of which changes what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from nnscan.allocation import ENDLESS, Allocation
from nnscan.dotted import dotted_paths, source_fingerprint
from nnscan.errors import LauncherError
from nnscan.launch_folder import Launch
from nnscan.results.folder import ScanFolder
from nnscan.training.group import ALONE, Group
from nnscan.trial import Settings


class TakenOverError(Exception):
    """Another writer has taken the bundle over: this one ends without a word."""


@dataclass(frozen=True)
class Place:
    """Where a trial is trained."""

    folder: ScanFolder
    launch: Launch
    device: str
    """`cpu`, `cuda`, `mps`, or one GPU of several: `cuda:1`."""
    writer: str
    """Name of the worker's journal: part of the names of its checkpoints."""
    closed: Callable[[], bool]
    """Whether another has taken the bundle over."""
    group: Group = ALONE
    """The ranks that train the trial, of which this process is one."""
    allocation: Allocation = ENDLESS
    """The time that this process was given."""

    @property
    def data_root(self) -> Path:
        """Folder below which data are looked for."""
        return Path(self.launch.data_root)

    def code_fingerprint(self, settings: Settings) -> str:
        """Return that of the users' functions as this process met them first: what it imported then is what runs."""
        return _code_fingerprint(self.launch.name, tuple(dotted_paths(settings)))

    def check(self) -> None:
        """Raise TakenOverError, on every rank alike, where another has taken the bundle over: rank 0 looks."""
        if self.group.agree(self.group.rank == 0 and self.closed()):
            raise TakenOverError


@lru_cache(maxsize=64)
def _code_fingerprint(launch: str, paths: tuple[str, ...]) -> str:  # noqa: ARG001
    return source_fingerprint(paths)


def choose_device(gpus_per_trial: float) -> str:
    """Return the device of a trial: the CPU unless GPUs were asked for.

    Raises
    ------
    LauncherError
        Where GPUs were asked for and torch sees none.
    """
    if not gpus_per_trial:
        return "cpu"
    if not visible_gpus():
        raise LauncherError(
            f"resources.gpus_per_trial = {gpus_per_trial:g}, and torch sees none where the trial runs. Set it to 0, or"
            " see `nnscan doctor` there."
        )
    import torch

    return "cuda" if torch.cuda.is_available() else "mps"


def visible_gpus() -> int:
    """Return how many GPUs torch sees in this process."""
    import torch  # 2 s that a user's function without torch need not pay

    return torch.cuda.device_count() or int(torch.backends.mps.is_available())
