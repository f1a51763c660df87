"""Which jobs of Slurm run the bundles of a launch: the file `launches/<launch>/jobs.json`, and what became of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nnscan.bundles import Bundle
from nnscan.errors import StoreError
from nnscan.launchers.slurm import queue as slurm_queue
from nnscan.launchers.slurm.queue import Queue, alive
from nnscan.results.folder import ScanFolder, told, write_atomically


@dataclass(frozen=True)
class SubmittedArray:
    """Bundles that were submitted together."""

    job: str
    """Number of the job; "" before Slurm gave one."""
    bundles: tuple[tuple[int, int], ...]
    """First trial of each, and the one after its last."""
    array: bool
    """Whether it is an array, whose tasks are numbered from 0; else one job for one bundle."""

    def task(self, index: int) -> str:
        """Return what Slurm calls the job of bundle `index`: "123_4", or "123" where there is no array."""
        return f"{self.job}_{index}" if self.array else self.job


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """The jobs of a launch."""

    profile: Mapping[str, Any]
    """Options of the profile they were asked with."""
    arrays: tuple[SubmittedArray, ...]
    submitted: float
    """Unix seconds when Slurm took the last of them: an older answer of the queue says nothing of it."""
    uid: int = field(default_factory=os.getuid)
    """User whose jobs they are."""
    retrain_job: str = ""
    """The job that retrains the winners after them; "" where none does."""

    @property
    def numbers(self) -> list[str]:
        """Numbers of all jobs, that of the retraining last."""
        numbers = [*(array.job for array in self.arrays), self.retrain_job]
        return [number for number in numbers if number]


def write(folder: ScanFolder, launch: str, jobs: Jobs) -> None:
    """Write the jobs of a launch; the file is there, without numbers, before the first of them is submitted."""
    path = _path(folder, launch)
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(_plain(jobs)).encode())


def read(folder: ScanFolder, launch: str) -> Jobs | None:
    """Return the jobs of a launch; None where it submitted none.

    Raises
    ------
    StoreError
        Where the file does not read.
    """
    path = _path(folder, launch)
    try:
        content = json.loads(path.read_bytes())
        arrays = tuple(_array(entry) for entry in content["arrays"])
        return Jobs(**{**content, "arrays": arrays})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"cannot read {path}: {error}. It names the jobs of a launch; `squeue --me` does, too."
        ) from error


def read_all(folder: ScanFolder) -> dict[str, Jobs]:
    """Return the jobs of each launch of a scan that submitted some, oldest first."""
    names = sorted(path.parent.name for path in folder.launches.glob("*/jobs.json"))
    return {name: jobs for name in names if (jobs := read(folder, name))}


def _plain(jobs: Jobs) -> dict[str, Any]:
    return {**vars(jobs), "arrays": [vars(array) for array in jobs.arrays]}  # asdict is 20 times slower


def _path(folder: ScanFolder, launch: str) -> Path:
    return folder.launches / launch / "jobs.json"


def _array(entry: Mapping[str, Any]) -> SubmittedArray:
    bundles = tuple((int(start), int(stop)) for start, stop in entry["bundles"])
    return SubmittedArray(str(entry["job"]), bundles, bool(entry["array"]))


def with_number(jobs: Jobs, place: int, number: str) -> Jobs:
    """Return `jobs` with the number that Slurm gave the array at `place`."""
    numbered = replace(jobs.arrays[place], job=number)
    arrays = (*jobs.arrays[:place], numbered, *jobs.arrays[place + 1 :])
    return replace(jobs, arrays=arrays, submitted=time.time())


def bundle_jobs(launch: str, jobs: Jobs) -> dict[str, str]:
    """Return the job of each bundle, by the bundle's name; "" of those that Slurm has not numbered yet."""
    return {name: array.task(index) if array.job else "" for name, array, index in _places(launch, jobs)}


def _places(launch: str, jobs: Jobs) -> Iterator[tuple[str, SubmittedArray, int]]:
    for array in jobs.arrays:
        for index, (start, stop) in enumerate(array.bundles):
            yield Bundle(launch, start, stop).name, array, index


def ended_names(folder: ScanFolder, launch: str) -> set[str]:
    """Return the names of the bundles of a launch that ended for good, whatever ended them; opens no file."""
    return {Bundle(launch, start, 0).name for start in _ended(folder, launch)}


def ended_bundles(folder: ScanFolder, launch: str) -> dict[str, str]:
    """Return what ended each bundle that ended for good, by its name: "" where its worker came to its end."""
    return {Bundle(launch, start, 0).name: end_of(folder, launch, start) for start in _ended(folder, launch)}


def end_of(folder: ScanFolder, launch: str, start: int) -> str:
    """Return what ended the bundle that begins at trial `start`: "" where its worker came to its end."""
    with suppress(OSError, ValueError, AttributeError):  # a network file system may show it before what is in it
        return _error(folder.launches / launch / "bundles" / f"{start}.json")
    return ""


@lru_cache(maxsize=2**16)
def _error(path: Path) -> str:
    return str(json.loads(path.read_bytes()).get("error", ""))  # written once, and never again


def _ended(folder: ScanFolder, launch: str) -> Iterator[int]:
    with suppress(FileNotFoundError), os.scandir(folder.launches / launch / "bundles") as entries:
        for entry in entries:
            start, dot, kind = entry.name.partition(".")
            if start.isdecimal() and dot and kind == "json":
                yield int(start)


def numbered(launch: str, jobs: Jobs, queue: Queue) -> Jobs:
    """Return `jobs` with numbers that the queue knows and the file does not.

    A launch that was killed between the answer of sbatch and its note of it leaves a job that runs and has no number
    here. Its script's path names the launch, and arrays are submitted in order.
    """
    known = set(jobs.numbers)
    strange = iter(
        sorted((job for job, name in queue.launches.items() if name == launch and job not in known), key=int)
    )
    arrays = [array if array.job else replace(array, job=next(strange, "")) for array in jobs.arrays]
    return replace(jobs, arrays=tuple(arrays), retrain_job=jobs.retrain_job or next(strange, ""))


def live_bundles(folder: ScanFolder, launch: str, queue: Queue) -> set[str]:
    """Return the names of the bundles of a launch that run or wait in the queue.

    Where the queue is not known, or was asked before they were submitted: all that have not told of their end.
    """
    jobs = read(folder, launch)
    if jobs is None:
        return set()
    ended = ended_names(folder, launch)
    unknown = bool(queue.error) or queue.asked < jobs.submitted
    places = list(_places(launch, numbered(launch, jobs, queue)))
    return {
        name
        for name, array, index in places
        if name not in ended and (unknown or (bool(array.job) and alive(queue.state(array.task(index)))))
    }


def ask_queue(folder: ScanFolder) -> Queue:
    """Return the state of every job of a scan, at most ten seconds old; nothing is asked where all bundles ended."""
    return slurm_queue.ask(
        folder, {jobs.uid for name, jobs in read_all(folder).items() if _unsettled(folder, name, jobs)}
    )


def _unsettled(folder: ScanFolder, launch: str, jobs: Jobs) -> bool:
    ended = ended_names(folder, launch)
    return bool(jobs.retrain_job) or any(name not in ended for name, _, _ in _places(launch, jobs))
