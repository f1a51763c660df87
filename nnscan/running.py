"""Trials are handed to a launcher and watched until they ended; the same for a scan and for retrainings."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from nnscan.cpus import usable_cpus
from nnscan.errors import LauncherError, Problem, ScanError, StoreError
from nnscan.launch_folder import Launch
from nnscan.launchers import Launcher, Submission
from nnscan.launchers.forked import gpus
from nnscan.launchers.inline import InlineLauncher
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause
from nnscan.results.progress import Follower, Progress
from nnscan.results.store import close_journals
from nnscan.training.place import visible_gpus

if TYPE_CHECKING:
    from nnscan.launchers.forked.launcher import ForkedLauncher
    from nnscan.launchers.ray.launcher import RayLauncher


@dataclass(frozen=True)
class Decoding:
    """How far the decoding of the data is; a launch tells it before any progress."""

    images: int
    total: int


Show = Callable[[Progress | Decoding], None]

POLL_SECONDS = 0.25


@contextmanager
def launcher_for(folder: ScanFolder, launch: Launch, workers: int) -> Iterator[Launcher]:
    """Give the launcher that `launch` names, and end its processes afterwards."""
    if launch.cluster == "inline" and workers <= 1:
        yield InlineLauncher(folder.path, Path(launch.code))
        return
    launcher = _forked(folder, launch) if launch.cluster == "inline" else _ray(folder, launch, workers)
    try:
        yield launcher
    finally:
        launcher.close()


def _forked(folder: ScanFolder, launch: Launch) -> ForkedLauncher:
    from nnscan.launchers.forked.launcher import ForkedLauncher, ForkedOptions  # psutil

    options = ForkedOptions(
        threads=launch.threads,
        gpus_per_trial=launch.gpus_per_trial,
        gpus=tuple(gpus.visible(visible_gpus())) if launch.gpus_per_trial else (),
        trains_networks=launch.trains_networks,
    )
    return ForkedLauncher(folder.path, Path(launch.code), options)


def _ray(folder: ScanFolder, launch: Launch, workers: int) -> RayLauncher:
    from nnscan.launchers.ray.launcher import RayLauncher, RayOptions  # psutil

    options = RayOptions(
        address=launch.address,
        workers=workers,
        processes=launch.processes,
        nodes=launch.nodes,
        cpus_per_trial=launch.cpus_per_trial,
        gpus_per_trial=launch.gpus_per_trial,
        trains_networks=launch.trains_networks,
    )
    return RayLauncher(folder.path, Path(launch.code), options)


def check_resources(launch: Launch, workers: int) -> None:
    """Raise ScanError where a trial needs more than this machine has; of a Ray cluster it is known once joined."""
    problems = [] if launch.cluster == "ray" else list(_lacking(launch, workers))
    if problems:
        raise ScanError("resources", problems)


def _lacking(launch: Launch, workers: int) -> Iterator[Problem]:
    cpus = usable_cpus()
    if launch.cluster == "local" and not workers and launch.cpus_per_trial > cpus:
        message = f"found {launch.cpus_per_trial}; here are {cpus} to use. Take fewer, or say how many run at once:"
        yield Problem("resources.cpus_per_trial", f"{message} --workers 1")
    if launch.gpus_per_trial and launch.gpus_per_trial > (count := visible_gpus()):
        message = f"found {launch.gpus_per_trial:g}; torch sees {count} here. Set it to 0 to train on the CPU, or see"
        yield Problem("resources.gpus_per_trial", f"{message} `nnscan doctor`.")
    elif launch.cluster == "inline" and workers > 1:
        yield from _not_to_be_forked(launch, workers)


def _not_to_be_forked(launch: Launch, workers: int) -> Iterator[Problem]:
    """Yield why this machine does not take so many forked workers: Ray takes what it has for as many as fit."""
    if sys.platform != "linux":
        message = f"found {workers}; --cluster inline forks its workers, which {sys.platform} does not let torch do."
        yield Problem("--workers", f"{message} Use --cluster local.")
    if launch.gpus_per_trial and workers > (room := gpus.room(launch.gpus_per_trial, visible_gpus())):
        message = f"found {workers}; of trials that take {launch.gpus_per_trial:g} GPUs each {room} at once fit here."
        yield Problem("--workers", f"{message} Use --workers {room}.")


def run(submission: Submission, folder: ScanFolder) -> None:
    """Follow `submission` to its end; journals that nobody writes any more are closed then.

    Raises
    ------
    LauncherError
        Where the back-end fails, or a worker cannot go on: what it said.
    KeyboardInterrupt
        Ctrl-C; no worker is left.
    """
    cause = Cause.INTERRUPTED
    try:
        _follow(submission)
        cause = Cause.LOST
    finally:
        submission.cancel()
        close_journals(folder, lambda _: True, cause)


def _follow(submission: Submission) -> None:
    for outcome in submission:
        if outcome.error:
            raise LauncherError(outcome.error)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM end a launch as Ctrl-C does; signals are the main thread's alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


@contextmanager
def shown(follower: Follower, show: Show) -> Iterator[None]:
    """Call `show` with how far the scan is, a few times a second and once at the end.

    A part that does not read ends the showing alone: the launch meets it when it compacts, and says so.
    """
    ended = threading.Event()

    def poll() -> None:
        with suppress(StoreError):
            while not ended.wait(POLL_SECONDS):
                show(follower.poll())

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(StoreError):
            show(follower.poll())
