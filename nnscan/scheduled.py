"""What a scheduler holds of a scan: bundles that run, bundles that wait, what can never start, what gave up.

Everything is read from the scan folder and from at most one question to the scheduler in ten seconds, whoever asks.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnscan.bundles import Bundle
from nnscan.results.folder import ScanFolder

if TYPE_CHECKING:
    from nnscan.launchers.slurm_jobs import Jobs
    from nnscan.launchers.slurm_queue import JobState, Queue

ADVICE = {
    "PartitionTimeLimit": "its walltime is above the limit of the partition: shorten `time` in the profile",
    "PartitionNodeLimit": "the partition gives no job so many nodes: ask for fewer, or another partition",
    "PartitionConfig": "the partition does not allow what it asks for: compare the profile with `sinfo`",
    "BadConstraints": "no node has what it asks for: mend `constraint` and the resources in the profile",
    "InvalidAccount": "the account may not use this cluster: mend `account` in the profile",
    "InvalidQOS": "the account may not use this QOS: mend `qos` in the profile",
    "DependencyNeverSatisfied": "a job that it waits for has failed",
    "JobHeldAdmin": "it is held: `scontrol release` lets it go, where you may",
    "JobHeldUser": "it is held: `scontrol release` lets it go",
    "launch failed requeued held": "its node could not start it: `scontrol release` lets it try again",
    "job requeued in held state": "it is held: `scontrol release` lets it go",
}
"""What there is to do about a request that never starts, by Slurm's reason (squeue's manual, "job reason codes")."""

_WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "NODE_FAIL", "PREEMPTED")
"""States of jobs that have no node: yet, or again."""

_ABOVE_A_LIMIT = (
    "it asks for more than a limit on each job: `sacctmgr show qos` and `sacctmgr show assoc` have the limits"
)
_PER_JOB = ("PerJob", "MaxWallDuration")
"""Parts of the reasons that say that the job alone is above a limit: it does not start when others end."""


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
        return [job for job in self.jobs if not job.waits]

    @property
    def waiting(self) -> list[ScheduledJob]:
        """Those that have none yet."""
        return [job for job in self.jobs if job.waits]


def advice(reason: str) -> str:
    """Return what there is to do where a job that waits for this reason never starts; "" where it may start."""
    if any(part in reason for part in _PER_JOB):
        return _ABOVE_A_LIMIT
    return ADVICE.get(reason, "")


def look(folder: ScanFolder) -> Scheduled:
    """Return what the scheduler holds of a scan; without launches that went to one nobody is asked."""
    from nnscan.launchers import slurm_jobs

    submissions = slurm_jobs.read_all(folder)
    if not submissions:
        return Scheduled()
    queue = slurm_jobs.ask_queue(folder)
    last = max(submissions)
    ended = slurm_jobs.ended_bundles(folder, last)
    found = scheduled(submissions, queue)
    unknown = bool(queue.error) or folder.stop.exists()  # a scan that was stopped has bundles that never began
    gone = () if unknown else _gone(found, last, submissions[last], ended)
    return replace(found, gave_up=_gave_up(folder, submissions), gone=gone)


def scheduled(submissions: Mapping[str, Jobs], queue: Queue) -> Scheduled:
    """Return what of the jobs of `submissions` (by launch) is alive in `queue`."""
    found = {job.job: job for launch, one in submissions.items() for job in _alive(launch, one, queue)}
    jobs = tuple(found.values())  # the job that retrains is one of its own launch once that is written
    return Scheduled(submitted=True, jobs=jobs, error=queue.error, asked=queue.asked)


def _alive(launch: str, jobs: Jobs, queue: Queue) -> Iterator[ScheduledJob]:
    from nnscan.launchers.slurm_jobs import numbered
    from nnscan.launchers.slurm_queue import alive

    jobs = numbered(launch, jobs, queue)
    for array in jobs.arrays:
        for index, (start, stop) in enumerate(array.bundles):
            if array.job and alive(state := queue.state(job := array.task(index))):
                name = Bundle(launch, start, stop).name
                yield ScheduledJob(job=job, launch=launch, bundle=name, start=start, stop=stop, state=state)
    if jobs.retrain_job and alive(state := queue.state(jobs.retrain_job)):
        yield ScheduledJob(job=jobs.retrain_job, launch=launch, state=state)


def _gone(found: Scheduled, launch: str, jobs: Jobs, ended: Container[str]) -> tuple[str, ...]:
    """Return the bundles of a launch that are neither alive nor told of their end."""
    from nnscan.launchers.slurm_jobs import bundle_jobs

    alive = {job.bundle for job in found.jobs}
    numbers = bundle_jobs(launch, jobs).items()
    return tuple(name for name, job in numbers if job and name not in alive and name not in ended)


def _gave_up(folder: ScanFolder, launches: Collection[str]) -> dict[str, str]:
    """Return the errors of bundles that ended since the last of `launches`: that one submitted anew what was left."""
    from nnscan.launchers.slurm_jobs import ended_bundles

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
