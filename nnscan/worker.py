"""A worker: it runs the trials of one bundle, one after another, and writes what comes of them.

Every launcher ends in `run_bundle`. Nothing is handed back: what became of a trial stands in the journal.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnscan import attempt, launch_folder
from nnscan.bundles import Bundle
from nnscan.dotted import make_importable
from nnscan.failure import FAILURES_IN_A_ROW, TRIES, FailureStreak, Thrown
from nnscan.identity import NUMERICS
from nnscan.launch_folder import Launch
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.results.journal import Cause, Writer
from nnscan.results.store import close_journals, ended_in_bundle, writing
from nnscan.training.function import FunctionTraining
from nnscan.training.place import Place, TakenOverError, choose_device
from nnscan.trial import Failure, Trial
from nnscan.version import __version__


@dataclass(frozen=True)
class Worker:
    """What a worker knows while it runs a bundle."""

    folder: ScanFolder
    launch: Launch
    bundle: Bundle
    place: Place
    writer: Writer

    def must_end(self) -> bool:
        """Return whether it was asked to stop, or another has taken the bundle over."""
        return self.folder.stop.exists() or self.writer.closed()


def run_bundle(folder: Path, code: Path, bundle: Bundle) -> None:
    """Run the trials of `bundle` that its earlier attempts have not finished.

    Raises
    ------
    StoreError
        Where results cannot be written: nothing that was written is lost.
    DataError
        Where the data are not there any more.
    """
    scan_folder = ScanFolder(folder)
    launch = launch_folder.read(scan_folder, bundle.launch)
    make_importable(code)
    close_journals(scan_folder, lambda name: name == bundle.name, Cause.LOST)
    device = choose_device(launch.gpus_per_trial)
    with writing(scan_folder, bundle.name, _columns(launch, device)) as writer, suppress(TakenOverError):
        place = Place(scan_folder, launch, device, writer.name, writer.closed)
        _run_trials(Worker(scan_folder, launch, bundle, place, writer))


def _run_trials(worker: Worker) -> None:
    again = []
    for trial, number in _wanted(worker):
        if _run_trial(worker, trial, number) is Failure.OUT_OF_MEMORY:
            again.append((trial, number + 1))
    for trial, number in again:  # once more, with nothing else of the bundle in memory
        if not worker.must_end():
            _run_trial(worker, trial, number)


def _wanted(worker: Worker) -> Iterator[tuple[Trial, int]]:
    """Yield the trials of the bundle that are left, each with the number of its attempt."""
    bundle = worker.bundle
    done, lost = ended_in_bundle(worker.folder, bundle.name)
    for trial in launch_folder.read_trials(worker.folder, bundle.launch, bundle.start, bundle.stop):
        number = max(trial.attempts, lost.get(trial.key, 0)) + 1
        if worker.must_end():
            return
        if trial.key not in done and number <= TRIES:
            yield trial, number


def _run_trial(worker: Worker, trial: Trial, number: int) -> Failure | None:
    open_training = _opener(trial, worker.place)
    ending = attempt.run(trial, number, worker.writer, open_training, worker.launch.metric)
    if _streak(worker.bundle.launch).ended(ending.thrown) and ending.thrown:
        _stop_scan(worker.folder, ending.thrown)
    return ending.thrown.failure if ending.thrown else None


def _opener(trial: Trial, place: Place) -> Callable[[], attempt.Training]:
    """Return what opens the training of `trial`; what it needs is imported now, before the attempt's clock starts."""
    if "function" in trial.settings["training"]:
        return partial(FunctionTraining, trial, place)
    from nnscan.training.network import NetworkTraining  # torch and torchvision: 3 s that a function may not need

    return partial(NetworkTraining.open, trial, place)


@cache
def _streak(launch: str) -> FailureStreak:  # noqa: ARG001
    """Return the one of a launch: small bundles share a process, and so their failures add up."""
    return FailureStreak()


def _stop_scan(folder: ScanFolder, thrown: Thrown) -> None:
    text = f"{FAILURES_IN_A_ROW} trials in a row failed alike: {thrown.error}\nat {thrown.place}\n"
    with told(folder.stop):
        write_atomically(folder.stop, text.encode())


def _columns(launch: Launch, device: str) -> dict[str, Any]:
    """Return what the rows say of the place."""
    return {
        "launch": launch.name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": device,
        "threads": launch.threads,
        "processes": launch.processes,
        "fused": 1,
        "nnscan_version": __version__,
        "torch_version": version("torch"),
        "python_version": platform.python_version(),
        "numerics": NUMERICS,
    }
