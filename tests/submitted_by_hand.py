"""A scan that was launched on Slurm, made by hand: its folder, and what the queue says; no Slurm is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from scan_by_hand import GRID, key_of, write_scan

from nnscan import launch_folder
from nnscan.identity import configuration_key
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.jobs import Jobs, SubmittedArray
from nnscan.launchers.slurm.queue import JobState, Queue
from nnscan.results.folder import ScanFolder
from nnscan.trial import Trial

LAUNCH = "20260102-030405-000006-abcdef"
KEYS = [key_of(point, fold) for point in GRID for fold in range(3)]
"""Of the 18 trials, in the order of the launch's list."""


def running(node: str = "nn1", seconds_left: float | None = 600.0) -> JobState:
    return JobState("RUNNING", "", node, seconds_left)


def waiting(reason: str = "Resources") -> JobState:
    return JobState("PENDING", reason)


def trials(families: tuple[str, ...] = ("MLP",)) -> list[Trial]:
    """The trials of the scan made by hand."""
    return [
        Trial(
            key=key_of(point, fold),
            configuration=configuration_key(point),
            settings=point,
            families=families,
            epochs=2,
            fold=fold,
        )
        for point in GRID
        for fold in range(3)
    ]


def submit(
    folder: ScanFolder,
    launch: str = LAUNCH,
    bundles: Iterable[tuple[int, int]] = ((0, 6), (6, 12), (12, 18)),
    job: str = "100",
    **changes: object,
) -> Jobs:
    """Write a launch whose bundles are the tasks of one array."""
    told = {"cluster": "slurm", "profile": "cpu", "scan": "s", "metric": "val_accuracy", "code": ".", "data_root": "."}
    launch_folder.write(folder, Launch(name=launch, **told), trials())  # type: ignore[arg-type]
    array = SubmittedArray(job, tuple(bundles), array=True)
    jobs = Jobs(**{"profile": {}, "arrays": (array,), "submitted": time.time(), "uid": os.getuid(), **changes})
    slurm_jobs.write(folder, launch, jobs)
    return jobs


def submitted_scan(path: Path) -> ScanFolder:
    """A scan of 18 trials, whose only launch went to Slurm as the array 100 of three bundles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = write_scan(path)
    submit(folder)
    return folder


def tell_queue(
    monkeypatch: pytest.MonkeyPatch, states: Mapping[str, JobState], error: str = "", asked: float = 0.0
) -> None:
    """Let the scheduler say this of the scan's jobs."""
    queue = Queue(dict(states), error, asked or time.time())
    monkeypatch.setattr(slurm_jobs, "ask_queue", lambda _: queue)


def end_bundle(folder: ScanFolder, start: int, error: str = "", launch: str = LAUNCH) -> None:
    """Let a bundle end for good."""
    home = folder.launches / launch / "bundles"
    home.mkdir(exist_ok=True)
    (home / f"{start}.json").write_text(f'{{"error": "{error}"}}')
