"""What is said of the bundles that a scheduler holds, in lines for `status`, `watch` and whoever waits."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nnscan.cli.wording import clock, count
from nnscan.errors import StoreError

if TYPE_CHECKING:
    from nnscan.results.folder import ScanFolder
    from nnscan.results.store import Running
    from nnscan.scheduled import Scheduled, ScheduledJob

MOST_NODES = 6
MOST_BUNDLES = 3
"""That are named one by one."""

ASK_SECONDS = 1.0
"""Between two looks of who waits; the scheduler itself is asked every ten seconds at most, whoever looks."""


def scheduler_lines(scheduled: Scheduled) -> Iterator[str]:
    """Yield what the scheduler holds, what never starts, and what gave up."""
    if scheduled.error:
        yield _silent(scheduled)
    bundles = [job for job in scheduled.jobs if job.bundle]
    yield from _running([job for job in bundles if job.is_known and not job.waits])
    yield from _waiting([job for job in bundles if job.waits])
    yield from _unknown(scheduled, [job for job in bundles if not job.is_known])
    yield from (_retraining(job) for job in scheduled.jobs if not job.bundle)
    yield from _gone(scheduled.gone)
    yield from _gave_up(scheduled)


def _silent(scheduled: Scheduled) -> str:
    told = f"what it said {clock(time.time() - scheduled.asked)} ago stands below" if scheduled.asked else ""
    return f"Slurm does not answer ({scheduled.error}): {told or 'all that is told comes from the journals'}"


def _running(jobs: Sequence[ScheduledJob]) -> Iterator[str]:
    if jobs:
        verb = "runs" if len(jobs) == 1 else "run"
        yield f"Slurm: {count(len(jobs), 'bundle')} {verb} on {_nodes(jobs)}{_time_left(jobs)}"


def _nodes(jobs: Sequence[ScheduledJob]) -> str:
    nodes = Counter(job.state.node or "a node" for job in jobs)
    named = sorted(nodes)[:MOST_NODES]
    more = [f"{len(nodes) - len(named)} more"] if len(nodes) > len(named) else []
    return ", ".join([*(node if nodes[node] == 1 else f"{node} ({nodes[node]})" for node in named), *more])


def _time_left(jobs: Sequence[ScheduledJob]) -> str:
    known = [job.state.seconds_left for job in jobs if job.state.seconds_left is not None]
    if not known:
        return ""
    first, last = clock(min(known)), clock(max(known))
    return f", {first} left" if first == last else f", {first} to {last} left"


def _waiting(jobs: Sequence[ScheduledJob]) -> Iterator[str]:
    may_start = Counter(job.state.reason or job.state.state for job in jobs if not job.advice)
    if may_start:
        total = may_start.total()
        reasons = ", ".join(f"{reason} {number}" for reason, number in may_start.most_common())
        yield f"Slurm: {count(total, 'bundle')} {'waits' if total == 1 else 'wait'}: {reasons}"
    never = Counter((job.state.reason, job.advice) for job in jobs if job.advice)
    for (reason, advice), number in never.most_common():
        what = f"Slurm: {count(number, 'bundle')} can never start ({reason}): {advice}"
        yield f"{what}. Then `nnscan cancel`, and launch again"


def _unknown(scheduled: Scheduled, jobs: Sequence[ScheduledJob]) -> Iterator[str]:
    if jobs and scheduled.error:
        yield f"Slurm: {count(len(jobs), 'bundle')} did not tell of an end: waiting, running or cancelled"
    elif jobs:
        yield f"Slurm: {count(len(jobs), 'bundle')} just submitted"


def _retraining(job: ScheduledJob) -> str:
    if not job.is_known:
        return f"Slurm: the retraining of the winners, job {job.job}, was submitted"
    if not job.waits:
        return f"Slurm: the retraining of the winners, job {job.job}, runs on {job.state.node or 'a node'}"
    reason = f"{job.state.reason}: {job.advice}" if job.advice else job.state.reason
    return f"Slurm: the retraining of the winners, job {job.job}, waits ({reason or job.state.state})"


def _gone(bundles: Sequence[str]) -> Iterator[str]:
    if bundles:
        verb, name = "is" if len(bundles) == 1 else "are", "its" if len(bundles) == 1 else "their"
        what = f"Slurm: {count(len(bundles), 'bundle')} {verb} not in the queue and did not tell {name} end"
        yield f"{what}: cancelled, or dead. `nnscan logs {bundles[0]}` has its words; `nnscan launch` goes on"


def _gave_up(scheduled: Scheduled) -> Iterator[str]:
    for bundle, error in list(scheduled.gave_up.items())[:MOST_BUNDLES]:
        yield f"Bundle {bundle} gave up: {(error.strip().splitlines() or ['?'])[0]}"
    if len(scheduled.gave_up) > MOST_BUNDLES:
        yield f"{len(scheduled.gave_up) - MOST_BUNDLES} bundles more gave up; launches/*/bundles/ holds their errors"
    if scheduled.gave_up:
        yield f"`nnscan logs {next(iter(scheduled.gave_up))}` has its words; `nnscan launch` runs what is left"


def retraining_lines(retrainings: Sequence[Running]) -> Iterator[str]:
    """Yield how far the retraining of each winner is."""
    for one in retrainings:
        epoch = 0 if one.epoch is None else one.epoch
        yield f"Retraining {', '.join(one.families)}: {epoch} of {count(one.epochs, 'epoch')}, on {one.host}"


def held_back_lines(folder: ScanFolder) -> Iterator[str]:
    """Yield what workers shall not start until the next launch: the whole scan, some families, some trials."""
    from nnscan.results.cancelled import read_cancelled

    with suppress(OSError):
        yield f"Stopped: {(folder.stop.read_text(encoding='utf-8').splitlines() or ['no reason is told'])[0]}"
    if cancelled := read_cancelled(folder):
        families = [f"family {name}" for name in sorted(cancelled.families)]
        trials = [count(len(cancelled.trials), "trial")] if cancelled.trials else []
        yield f"Cancelled until the next launch: {', '.join([*families, *trials])}"


class Asked:
    """What a scheduler holds of a scan, and what is retrained, looked at again and again by a thread of its own.

    A controller that is away takes nine seconds to say so: whoever draws does not wait for it.
    """

    def __init__(self, folder: ScanFolder) -> None:
        self._folder = folder
        self._ended = threading.Event()
        self.scheduled: Scheduled | None = None
        """None until the first answer."""
        self._beside: Sequence[str] = ()

    def lines(self) -> list[str]:
        """Return what is to be said of the last answers."""
        said = scheduler_lines(self.scheduled) if self.scheduled else ()
        return [*self._beside, *said]

    def run(self) -> None:
        """Ask until the end."""
        while not self._ended.is_set():
            with suppress(StoreError):  # a file that is being replaced on a network file system
                self._look()
            self._ended.wait(ASK_SECONDS)

    def _look(self) -> None:
        from nnscan import scheduled, watching

        self.scheduled = scheduled.look(self._folder)
        self._beside = [*retraining_lines(watching.retrainings(self._folder)), *held_back_lines(self._folder)]

    def end(self) -> None:
        """Ask no more."""
        self._ended.set()


@contextmanager
def asking(folder: ScanFolder) -> Iterator[Asked]:
    """Ask the scheduler about a scan while the block runs."""
    asked = Asked(folder)
    threading.Thread(target=asked.run, daemon=True).start()
    try:
        yield asked
    finally:
        asked.end()
