"""What jobs of earlier launches are to train, or are training: a launch leaves it alone."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from nnscan import launch_folder
from nnscan.bundles import Bundle
from nnscan.launchers import slurm_jobs
from nnscan.launchers.slurm_jobs import Jobs
from nnscan.launchers.slurm_queue import POLL_SECONDS, Queue
from nnscan.results.folder import ScanFolder

FRESH_SECONDS = 1.0


@dataclass(frozen=True)
class Elsewhere:
    """Bundles that jobs hold."""

    bundles: frozenset[str] = frozenset()
    """Their names."""
    keys: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    """Keys of their trials, those that ended included."""
    error: str = ""
    """Why the scheduler could not be asked: every bundle that has not told of its end is then taken to be alive."""


def elsewhere(folder: ScanFolder) -> Elsewhere:
    """Return which bundles jobs of Slurm hold; asks the scheduler, if need be once more when it may be asked again.

    What it said some seconds ago is not enough where it makes a launch leave trials alone: they may have been
    cancelled since.
    """
    jobs = slurm_jobs.read_all(folder)
    if not jobs:
        return Elsewhere()
    queue = slurm_jobs.ask_queue(folder)
    live = _live(folder, jobs, queue)
    if live and not queue.error and time.time() - queue.asked > FRESH_SECONDS:
        time.sleep(max(0.0, queue.asked + POLL_SECONDS - time.time()) + 0.1)
        queue = slurm_jobs.ask_queue(folder)
        live = _live(folder, jobs, queue)
    return Elsewhere(frozenset(live), _keys(folder, jobs, live), queue.error)


def _live(folder: ScanFolder, launches: Collection[str], queue: Queue) -> set[str]:
    return {name for launch in launches for name in slurm_jobs.live_bundles(folder, launch, queue)}


def _keys(folder: ScanFolder, launches: Mapping[str, Jobs], live: Collection[str]) -> pa.Array:
    """Return the keys of the trials of the bundles `live`."""
    found = [pa.array([], pa.string())]
    for launch, jobs in launches.items():
        bundles = [Bundle(launch, *place) for array in jobs.arrays for place in array.bundles]
        if held := [bundle for bundle in bundles if bundle.name in live]:
            keys = launch_folder.read_keys(folder, launch)
            found += [keys.slice(bundle.start, bundle.stop - bundle.start) for bundle in held]
    return pa.concat_arrays(found)
