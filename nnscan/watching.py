"""Following a scan that runs elsewhere, until nothing of it is left to run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

from nnscan import launch_folder
from nnscan.results import store
from nnscan.results.course import Course, CourseFollower
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import journals
from nnscan.results.lock import held_by
from nnscan.results.progress import Follower, Progress
from nnscan.results.store import Running
from nnscan.scheduled import Scheduled
from nnscan.trial import Kind

POLL_SECONDS = 0.25
SETTLE_SECONDS = 3.0
"""How long it must look over before it is: a launch lets go of the folder a moment before its jobs are seen."""


def watch(
    folder: ScanFolder,
    show: Callable[[Progress], None],
    scheduled: Callable[[], Scheduled | None],
    *,
    details: bool = False,
) -> tuple[Progress, Scheduled]:
    """Follow a scan until nothing of it runs or may start; return how far it is then, and what its scheduler holds.

    Parameters
    ----------
    folder : ScanFolder
        Of a scan that was launched, from wherever.
    show : callable
        Told a few times a second how far the scan is.
    scheduled : callable
        Returns what the scheduler holds, without waiting for it; None while that is not known.
    details : bool
        Whether `show` is told highlights, too.
    """
    follower, followed = Follower(folder, details=details), _stamp(folder)
    over_since = None
    while True:
        if _stamp(folder) != followed:  # another launch has other trials
            follower, followed = Follower(folder, details=details), _stamp(folder)
        progress, held = follower.poll(), scheduled()
        show(progress)
        if held is None or not is_over(folder, progress, held):
            over_since = None
        elif _is_settled(over_since := over_since or time.monotonic(), progress, held):
            return progress, held
        time.sleep(POLL_SECONDS)


def watch_trial(
    folder: ScanFolder, trial: str, show: Callable[[Course], None], scheduled: Callable[[], Scheduled | None]
) -> Course:
    """Follow one trial until it has a result, or nothing of the scan runs or may start; return how it is then.

    Parameters
    ----------
    folder, show, scheduled
        As of `watch`.
    trial : str
        Its key, whole.
    """
    follower = CourseFollower(folder, trial)
    idle_since = None
    while True:
        course, held = follower.poll(), scheduled()
        show(course)
        if course.is_over:
            return course
        if held is None or _may_go_on(folder, held):
            idle_since = None
        elif time.monotonic() - (idle_since := idle_since or time.monotonic()) > SETTLE_SECONDS:
            return course
        time.sleep(POLL_SECONDS)


def _may_go_on(folder: ScanFolder, scheduled: Scheduled) -> bool:
    return bool(held_by(folder) or scheduled.error or not all(job.advice for job in scheduled.jobs))


def is_over(folder: ScanFolder, progress: Progress, scheduled: Scheduled) -> bool:
    """Return whether nothing of a scan runs or may start, as far as can be told from here."""
    if held_by(folder):
        return False
    if scheduled.error:
        return progress.ended == progress.total and not progress.running
    return all(job.advice for job in scheduled.jobs)  # those that can never start are told, not waited for


def retrainings(folder: ScanFolder) -> list[Running]:
    """Return the winners that are being retrained now; nothing but the names of journals is read where none is."""
    launches = {journal.bundle.rpartition("-")[0] for journal in journals(folder) if journal.cause is None}
    if not any(_retrains(folder, launch) for launch in launches):
        return []
    return [one for one in store.running(folder) if one.kind == Kind.RETRAINING.value]


@lru_cache(maxsize=128)
def _retrains(folder: ScanFolder, launch: str) -> bool:
    try:
        return any(trial.kind is Kind.RETRAINING for trial in launch_folder.read_trials(folder, launch, 0, 1))
    except OSError:  # of a launch that is being written, or whose folder was removed
        return False


def _is_settled(since: float, progress: Progress, scheduled: Scheduled) -> bool:
    done = progress.ended == progress.total and not scheduled.submitted
    return done or time.monotonic() - since > SETTLE_SECONDS


def _stamp(folder: ScanFolder) -> int:
    try:
        return folder.plan.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
