"""Ending a scan that runs, or leaving some of its families and trials out, from anywhere that sees its folder."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nnscan import keys as trial_keys
from nnscan import scheduled as schedulers
from nnscan.errors import LauncherError, ScanError
from nnscan.results import store
from nnscan.results.cancelled import Cancelled, write_cancelled
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.results.journal import journals
from nnscan.results.lock import held_by
from nnscan.scheduled import Scheduled, ScheduledJob
from nnscan.trial import Failure


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """What was cancelled, and what was done for it."""

    families: tuple[str, ...] = ()
    trials: tuple[str, ...] = ()
    """Keys; without families and trials the whole scan was cancelled."""
    ended: tuple[str, ...] = ()
    """Keys of trials that were to be cancelled and have a result already: it stays."""
    jobs: tuple[str, ...] = ()
    """Numbers of the jobs that Slurm was told to end."""
    bundles: int = 0
    """That those jobs held."""
    error: str = ""
    """Why Slurm could not be told; "" where it was, or where there was nothing to tell."""
    held_by: str = ""
    """The launch that runs the scan now, by its lock; "" where none does."""
    anything: bool = True
    """False where nothing ran and nothing was queued: then nothing was written."""

    @property
    def everything(self) -> bool:
        """Whether the whole scan was cancelled."""
        return not (self.families or self.trials or self.ended)


def cancel(folder: ScanFolder, families: Sequence[str] = (), trials: Sequence[str] = ()) -> Cancellation:
    """Cancel a scan until its next launch, or only some families and trials of it.

    The whole of it: workers start no further trial, and its jobs of Slurm are ended. Otherwise workers pass over those
    trials and end them where they are in training; queued jobs that hold nothing else are ended.

    Parameters
    ----------
    folder : ScanFolder
    families : sequence of str
        Names; a trial that belongs to others as well is left.
    trials : sequence of str
        Keys, or how they begin.

    Raises
    ------
    ScanError
        Where there is no such family or trial; names the nearest.
    StoreError
        Where the scan folder cannot be written.
    """
    return _cancel_some(folder, families, trials) if families or trials else _cancel_all(folder)


def _cancel_all(folder: ScanFolder) -> Cancellation:
    scheduled = schedulers.look(folder)
    holder = held_by(folder)
    if not (holder or scheduled.jobs or scheduled.error or _is_written(folder)):
        return Cancellation(anything=False)
    with told(folder.stop):  # before the jobs are ended: a worker that lives on sees it before its next trial
        write_atomically(folder.stop, _reason().encode())
    jobs = list(dict.fromkeys(job.job.partition("_")[0] for job in scheduled.jobs))
    return Cancellation(
        jobs=tuple(jobs),
        bundles=sum(bool(job.bundle) for job in scheduled.jobs),
        error=_end_jobs(folder, jobs) or scheduled.error,
        held_by=holder,
    )


def _is_written(folder: ScanFolder) -> bool:
    return any(journal.cause is None for journal in journals(folder))


def _reason() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        user = f"user {os.getuid()}"
    when = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"cancelled by {user} on {socket.gethostname()}, {when} (`nnscan cancel`)\n"


def _cancel_some(folder: ScanFolder, families: Sequence[str], trials: Sequence[str]) -> Cancellation:
    wanted = _trials_named(folder, families, trials)
    ended = _ended(folder)
    left = tuple(key for key in wanted if key not in ended)
    more = Cancelled(frozenset(families), frozenset(left))
    if not more:
        return Cancellation(ended=tuple(wanted))
    cancelled = write_cancelled(folder, more)
    scheduled = schedulers.look(folder)
    emptied = [job.job for job in _emptied(folder, scheduled, cancelled, ended)]
    return Cancellation(
        families=tuple(families),
        trials=left,
        ended=tuple(key for key in wanted if key in ended),
        jobs=tuple(emptied),
        bundles=len(emptied),
        error=_end_jobs(folder, emptied) or scheduled.error,
        held_by=held_by(folder),
    )


def _trials_named(folder: ScanFolder, families: Sequence[str], trials: Sequence[str]) -> list[str]:
    """Return the keys that `trials` mean; ScanError with whatever is wrong in both."""
    problems = list(trial_keys.unknown_families(folder, families))
    keys = trial_keys.known_keys(folder) if trials else pa.array([], pa.string())
    found = {text: trial_keys.beginning(keys, text) for text in trials}
    problems += [trial_keys.unclear(folder, keys, text) for text, those in found.items() if len(those) != 1]
    if problems:
        raise ScanError(str(folder.path), problems)
    return list(dict.fromkeys(those[0] for those in found.values()))


def _ended(folder: ScanFolder) -> set[str]:
    """Return the keys of the trials that have a result; one whose worker died has none yet: it is tried again."""
    rows = store.read_trials(folder, ("trial", "failure"))
    return set(rows.filter(pc.not_equal(rows["failure"], Failure.LOST.value))["trial"].to_pylist())


def _emptied(
    folder: ScanFolder, scheduled: Scheduled, cancelled: Cancelled, ended: Container[str]
) -> list[ScheduledJob]:
    """Return the queued jobs that hold no trial any more that is wanted and has no result."""
    waiting = [job for job in scheduled.jobs if job.bundle and (job.waits or not job.is_known)]
    needed = {launch: _needed(folder, launch, cancelled, ended) for launch in {job.launch for job in waiting}}
    return [job for job in waiting if not any(needed[job.launch][job.start : job.stop])]


def _needed(folder: ScanFolder, launch: str, cancelled: Cancelled, ended: Container[str]) -> list[bool]:
    """Return of each trial in the list of a launch whether it is still to be run."""
    table = pq.read_table(folder.launches / launch / "trials.parquet", columns=["key", "families"])
    rows = zip(table["key"].to_pylist(), table["families"].to_pylist(), strict=True)
    return [key not in ended and not cancelled.covers(key, families) for key, families in rows]


def _end_jobs(folder: ScanFolder, jobs: Sequence[str]) -> str:
    """Tell Slurm to end jobs, all at once; return why that failed, "" where it did not."""
    if not jobs:
        return ""
    from nnscan.launchers.slurm.launcher import cancel_jobs
    from nnscan.launchers.slurm.queue import forget

    try:
        cancel_jobs(jobs, seconds=0.0)  # once: whoever typed it sees why it failed, and types it again
    except LauncherError as error:
        return str(error.__cause__ or error)
    forget(folder)
    return ""
