"""What a scheduler holds of a scan: bundles that run, bundles that wait, what can never start, what gave up.

Everything is read from the scan folder and from at most one question to the scheduler in ten seconds, whoever asks.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnscan.bundles import Bundle
from nnscan.launchers.slurm.reasons import advice
from nnscan.results.folder import ScanFolder

if TYPE_CHECKING:
    from nnscan.launchers.slurm.jobs import Jobs
    from nnscan.launchers.slurm.queue import JobState, Queue

_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "NODE_FAIL", "PREEMPTED")
"""States of jobs that have no node: yet, or again."""


@dataclass(frozen=True, kw_only=True)
class ScheduledJob:
    """A job that the scheduler has not ended: a bundle, or the retraining of the winners."""

    job: str
    """Its number, `1234_5` of a task of an array."""
    launch: str
    bundle: str = ""
    """Name; "" of a job that retrains."""
    start: int = 0
    stop: int = 0
    """Range of trials in the list of its launch."""
    state: JobState
    """Empty where nothing is known: submitted since the scheduler was asked, or it does not answer."""

    @property
    def is_known(self) -> bool:
        """Whether the scheduler said anything of it."""
        return bool(self.state.state)

    @property
    def waits(self) -> bool:
        """Whether it has yet to start."""
        return self.state.state in _WAITING

    @property
    def advice(self) -> str:
        """What there is to do where it can never start; "" where it may."""
        return advice(self.state.reason) if self.waits else ""


@dataclass(frozen=True, kw_only=True)
class Scheduled:
    """What a scheduler holds of a scan; empty of one that runs without."""

    submitted: bool = False
    """Whether any of the scan's launches went to a scheduler."""
    jobs: tuple[ScheduledJob, ...] = ()
    error: str = ""
    """Why the scheduler does not answer, "" where it does; `jobs` are then those that it told of last."""
    asked: float = 0.0
    """When it told of them, unix seconds; 0 where it never did."""
    gave_up: Mapping[str, str] = field(default_factory=dict)
    """Errors of bundles that ended for good since the last launch, by their names."""
    gone: tuple[str, ...] = ()
    """Bundles of the last launch that are in no queue and told of no end: cancelled, or dead before they began."""

    @property
    def running(self) -> list[ScheduledJob]:
        """Those that have nodes."""
        return [job for job in self.jobs if job.is_known and not job.waits]

    @property
    def waiting(self) -> list[ScheduledJob]:
        """Those that have none yet."""
        return [job for job in self.jobs if job.waits]


def look(folder: ScanFolder) -> Scheduled:
    """Return what the scheduler holds of a scan; without launches that went to one nobody is asked."""
    from nnscan.launchers.slurm import jobs as slurm_jobs

    submissions = slurm_jobs.read_all(folder)
    if not submissions:
        return Scheduled()
    queue = slurm_jobs.ask_queue(folder)
    ended = {name for launch in submissions for name in slurm_jobs.ended_names(folder, launch)}
    found = scheduled(submissions, queue, ended)
    last = max(submissions)
    unknown = bool(queue.error) or folder.stop.exists()  # a scan that was stopped has bundles that never began
    gone = () if unknown else _gone(found, last, submissions[last], ended)
    return replace(found, gave_up=_gave_up(folder, submissions), gone=gone)


def scheduled(submissions: Mapping[str, Jobs], queue: Queue, ended: Container[str] = ()) -> Scheduled:
    """Return what of the jobs of `submissions` (by launch) is alive in `queue`.

    Of those that were submitted after the queue was asked nothing is known; bundles that have not `ended` may be alive.
    """
    found = {job.job: job for launch, one in submissions.items() for job in _alive(launch, one, queue, ended)}
    jobs = tuple(found.values())  # the job that retrains is one of its own launch once that is written
    return Scheduled(submitted=True, jobs=jobs, error=queue.error, asked=queue.asked)


def _alive(launch: str, jobs: Jobs, queue: Queue, ended: Container[str]) -> Iterator[ScheduledJob]:
    from nnscan.launchers.slurm.jobs import numbered
    from nnscan.launchers.slurm.queue import alive

    jobs = numbered(launch, jobs, queue)
    for one in _all(launch, jobs, queue):
        unknown = queue.asked < jobs.submitted and one.job not in queue.states and one.bundle not in ended
        if one.job and (unknown or alive(one.state)):
            yield one


def _all(launch: str, jobs: Jobs, queue: Queue) -> Iterator[ScheduledJob]:
    """Yield every job of a launch, alive or not."""
    for array in jobs.arrays:
        for index, (start, stop) in enumerate(array.bundles):
            job, name = array.task(index) if array.job else "", Bundle(launch, start, stop).name
            yield ScheduledJob(job=job, launch=launch, bundle=name, start=start, stop=stop, state=queue.state(job))
    yield ScheduledJob(job=jobs.retrain_job, launch=launch, state=queue.state(jobs.retrain_job))


def _gone(found: Scheduled, launch: str, jobs: Jobs, ended: Container[str]) -> tuple[str, ...]:
    """Return the bundles of a launch that are neither alive nor told of their end."""
    from nnscan.launchers.slurm.jobs import bundle_jobs

    alive = {job.bundle for job in found.jobs}
    numbers = bundle_jobs(launch, jobs).items()
    return tuple(name for name, job in numbers if job and name not in alive and name not in ended)


def _gave_up(folder: ScanFolder, launches: Collection[str]) -> dict[str, str]:
    """Return the errors of bundles that ended since the last of `launches`: that one submitted anew what was left."""
    from nnscan.launchers.slurm.jobs import ended_bundles

    since = _changed(folder.launches / max(launches) / "launch.json")
    errors = {name: (launch, error) for launch in launches for name, error in ended_bundles(folder, launch).items()}
    return {
        name: error
        for name, (launch, error) in errors.items()
        if error and _changed(_end_of(folder, launch, name)) >= since
    }


def _end_of(folder: ScanFolder, launch: str, bundle: str) -> Path:
    return folder.launches / launch / "bundles" / f"{bundle.rpartition('-')[2]}.json"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
