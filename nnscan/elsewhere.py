"""What jobs of earlier launches are to train, or are training: a launch leaves it alone."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from nnscan import launch_folder
from nnscan.bundles import Bundle
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.jobs import Jobs
from nnscan.launchers.slurm.queue import POLL_SECONDS, Queue, alive
from nnscan.results.folder import ScanFolder


@dataclass(frozen=True)
class Elsewhere:
    """Bundles that jobs hold."""

    bundles: frozenset[str] = frozenset()
    """Their names."""
    keys: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    """Keys of their trials, those that ended included."""
    launches: frozenset[str] = frozenset()
    """Launches that jobs belong to, those that retrain included."""
    error: str = ""
    """Why the scheduler could not be asked: every bundle that has not told of its end is then taken to be alive."""


def remove_leftovers(folder: ScanFolder, held: Elsewhere) -> None:
    """Remove what submitit wrote for jobs that ended without their own word, such as those cancelled in the queue."""
    for launch in folder.launches.glob("*/submitit"):
        if launch.parent.name not in held.launches:
            for path in launch.glob("*.pkl"):
                path.unlink(missing_ok=True)


def elsewhere(folder: ScanFolder) -> Elsewhere:
    """Return which bundles jobs of Slurm hold; asks the scheduler, if need be once more when it may be asked again.

    What it said some seconds ago is not enough where it makes a launch leave trials alone: they may have been
    cancelled since.
    """
    jobs, now = slurm_jobs.read_all(folder), time.time()
    if not jobs:
        return Elsewhere()
    queue = slurm_jobs.ask_queue(folder)
    live = _live(folder, jobs, queue)
    if live and not queue.error and queue.asked < now:
        time.sleep(max(0.0, queue.asked + POLL_SECONDS - time.time()) + 0.1)
        queue = slurm_jobs.ask_queue(folder)
        live = _live(folder, jobs, queue)
    launches = {launch for launch in jobs if _is_alive(jobs[launch], live, launch, queue)}
    return Elsewhere(frozenset(live), _keys(folder, jobs, live), frozenset(launches), queue.error)


def _is_alive(jobs: Jobs, live: Collection[str], launch: str, queue: Queue) -> bool:
    retrains = bool(jobs.retrain_job) and (bool(queue.error) or alive(queue.state(jobs.retrain_job)))
    return retrains or any(bundle.name in live for bundle in _bundles(launch, jobs))


def _bundles(launch: str, jobs: Jobs) -> Iterator[Bundle]:
    return (Bundle(launch, *place) for array in jobs.arrays for place in array.bundles)


def _live(folder: ScanFolder, launches: Collection[str], queue: Queue) -> set[str]:
    return {name for launch in launches for name in slurm_jobs.live_bundles(folder, launch, queue)}


def _keys(folder: ScanFolder, launches: Mapping[str, Jobs], live: Collection[str]) -> pa.Array:
    """Return the keys of the trials of the bundles `live`."""
    found = [pa.array([], pa.string())]
    for launch, jobs in launches.items():
        if held := [bundle for bundle in _bundles(launch, jobs) if bundle.name in live]:
            keys = launch_folder.read_keys(folder, launch)
            found += [keys.slice(bundle.start, bundle.stop - bundle.start) for bundle in held]
    return pa.concat_arrays(found)
