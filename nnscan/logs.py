"""The words of workers: which log belongs to a trial or a bundle, and following it while it grows."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nnscan import keys as trial_keys
from nnscan import launch_folder
from nnscan.errors import Problem, ScanError
from nnscan.results import store
from nnscan.results.attempts import Attempt, attempts
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import DETAILS, counted, journals, names_in, read_rows
from nnscan.results.lock import held_by
from nnscan.scheduled import Scheduled
from nnscan.trial import Failure

POLL_SECONDS = 0.5
AT_ONCE_BYTES = 1 << 20
SHOWN_NAMES = 5

ROW = ("trial", "kind", "status", "failure", "error", "traceback", "host", "pid", "bundle", "ended")
"""Columns of trials/ that tell where a trial was trained, and what became of it."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """A file with the words of a worker, or of what started it."""

    path: Path
    size: int
    """Bytes."""
    changed: float
    """Unix seconds."""
    bundle: str
    """Whose words they are; "" of a worker that runs bundle after bundle, and of Ray itself."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whose words are asked for: a trial's, a bundle's, or everybody's."""

    trial: str = ""
    bundle: str = ""


@dataclass(frozen=True, kw_only=True)
class Words:
    """What there is to read of a trial or a bundle now."""

    subject: Subject
    bundle: str = ""
    """Where the trial was trained last, is trained, or will be; "" where nobody knows yet."""
    host: str = ""
    pid: int = 0
    job: str = ""
    """Number of the bundle's job where the scheduler has it."""
    running: bool = False
    row: Mapping[str, Any] = field(default_factory=dict)
    """`ROW` of the trial, empty without a result."""
    logs: tuple[Log, ...] = ()
    over: bool = False
    """Nobody is going to write more."""


def logs(folder: ScanFolder) -> list[Log]:
    """Return every log of a scan, the one that changed last at the end."""
    own = ((folder.logs / name, _bundle_in(name, folder)) for name in names_in(folder.logs))
    found = (_log(path, bundle) for path, bundle in (*own, *_of_submission(folder)))
    return sorted((log for log in found if log), key=lambda log: (log.changed, log.path))


def _bundle_in(name: str, folder: ScanFolder) -> str:
    """Return the bundle of a log `<bundle>.<task>.log`; "" of `<host>-<process>.log`, where the host may have dots."""
    bundle, dot, rest = name.partition(".")
    is_one = dot and rest.partition(".")[0].isdigit() and (folder.launches / bundle.rpartition("-")[0]).is_dir()
    return bundle if is_one and "-" in bundle else ""


def _of_submission(folder: ScanFolder) -> Iterator[tuple[Path, str]]:
    """Yield what jobs printed outside of any worker, with their bundles: files `<job>_...`."""
    for home in folder.launches.glob("*/submitit"):
        bundles = _bundles_by_job(folder, home.parent.name)
        for name in names_in(home):
            if name.endswith((".out", ".err", ".log")):
                words = name.split("_")
                yield home / name, bundles.get("_".join(words[:2])) or bundles.get(words[0], "")


def _bundles_by_job(folder: ScanFolder, launch: str) -> dict[str, str]:
    from nnscan.launchers.slurm import jobs as slurm_jobs

    jobs = slurm_jobs.read(folder, launch)
    return {job: bundle for bundle, job in slurm_jobs.bundle_jobs(launch, jobs).items() if job} if jobs else {}


def _submitted(folder: ScanFolder) -> dict[str, str]:
    """Return the bundles that were ever submitted, by the numbers of their jobs."""
    launches = [path.parent.name for path in folder.launches.glob("*/jobs.json")]
    return {job: bundle for launch in launches for job, bundle in _bundles_by_job(folder, launch).items()}


def _log(path: Path, bundle: str) -> Log | None:
    try:
        stat = path.stat()
    except FileNotFoundError:  # a bundle that comes to its end removes what it printed outside of its workers
        return None
    return Log(path=path, size=stat.st_size, changed=stat.st_mtime, bundle=bundle)


# ---- whose words ----


def resolve(folder: ScanFolder, text: str) -> Subject:
    """Return the trial or bundle that `text` means: the start of a key or of a bundle's name, or the number of a job.

    Raises
    ------
    ScanError
        Where nothing begins so, or more than one.
    """
    keys = trial_keys.known_keys(folder)
    names = _bundles(folder)
    bundles = sorted({name for name in names if name.startswith(text)} | {_submitted(folder).get(text, "")} - {""})
    match [
        *(Subject(trial=key) for key in trial_keys.beginning(keys, text)),
        *(Subject(bundle=name) for name in bundles),
    ]:
        case [subject]:
            return subject
        case []:
            raise _unknown(folder, text, keys, names)
        case several:
            shown = [subject.trial or subject.bundle for subject in several[:SHOWN_NAMES]]
            more = ", ..." if len(several) > len(shown) else ""
            raise _wrong(folder, f"{len(several)} begin with {text!r}: {', '.join(shown)}{more}. Give more of it.")


def _bundles(folder: ScanFolder) -> set[str]:
    """Return the names of all bundles that left a trace."""
    stored = set(pc.unique(store.read_trials(folder, ("bundle",))["bundle"]).to_pylist())
    logged = {log.bundle for log in logs(folder)}
    written = {journal.bundle for journal in journals(folder)}
    return (stored | logged | written | set(_submitted(folder).values())) - {"", None}


def _unknown(folder: ScanFolder, text: str, keys: pa.Array, bundles: Iterable[str]) -> ScanError:
    near = "".join(get_close_matches(text, bundles, n=1)) if "-" in text else trial_keys.nearest(keys, text)
    hint = f" Did you mean {near}?" if near else ""
    return _wrong(
        folder, f"no trial and no bundle of this scan begins with {text!r}.{hint} `nnscan logs` lists the logs."
    )


def _wrong(folder: ScanFolder, message: str) -> ScanError:
    return ScanError(str(folder.path), [Problem("TRIAL|BUNDLE", message)])


# ---- what there is to read ----


def words(folder: ScanFolder, subject: Subject, scheduled: Scheduled) -> Words:
    """Return what there is to read of a trial or a bundle."""
    if subject.trial:
        return _of_trial(folder, subject, scheduled)
    if subject.bundle:
        return _of_bundle(folder, subject, scheduled)
    return Words(subject=subject, logs=tuple(logs(folder)), over=not _somebody(folder, scheduled))


def _of_trial(folder: ScanFolder, subject: Subject, scheduled: Scheduled) -> Words:
    begun = [one for one in _attempts(folder) if one[0].trial == subject.trial]
    row = _row(folder, subject.trial)
    queued = _queued(folder, subject.trial, scheduled)
    place = _last_place(begun, row) or ({"bundle": queued[0]} if queued else {})
    running = any(_is_running(*one) for one in begun)
    bundle, host, pid = place.get("bundle") or "", place.get("host") or "", place.get("pid") or 0
    return Words(
        subject=subject,
        bundle=bundle,
        host=host,
        pid=pid,
        job=queued[1] if queued else "",
        running=running,
        row=row,
        logs=_of_workers(folder, _logs_of(folder, bundle, {(host, pid)})),
        over=not running and (_has_ended(row, queued) or not (queued or _somebody(folder, scheduled))),
    )


def _of_workers(folder: ScanFolder, found: tuple[Log, ...]) -> tuple[Log, ...]:
    """Return the logs of workers alone, where there are any: what a job printed before them is no word of a trial."""
    return tuple(log for log in found if log.path.parent == folder.logs) or found


def _has_ended(row: Mapping[str, Any], queued: tuple[str, str] | None) -> bool:
    """Return whether a trial has a result that stays: not one of a worker that died, nor one that a job repeats."""
    return bool(row) and row["failure"] != Failure.LOST.value and (queued is None or row["bundle"] == queued[0])


def _of_bundle(folder: ScanFolder, subject: Subject, scheduled: Scheduled) -> Words:
    name = subject.bundle
    found = [(attempt, is_open) for attempt, is_open in _attempts(folder) if attempt.place["bundle"] == name]
    places = {_process(attempt.place) for attempt, _ in found} | _processes(folder, name)
    job = next((job.job for job in scheduled.jobs if job.bundle == name), "")
    open_ = any(journal.bundle == name and journal.cause is None for journal in journals(folder))
    unknown = bool(scheduled.error) and not _told_its_end(folder, name)
    return Words(
        subject=subject,
        bundle=name,
        job=job,
        running=any(_is_running(*one) for one in found),
        logs=_logs_of(folder, name, places),
        over=not open_ and not job and not unknown,
    )


def _attempts(folder: ScanFolder) -> Iterator[tuple[Attempt, bool]]:
    """Yield the attempts that journals tell, and of each whether its journal is open."""
    for journal in journals(folder):
        try:
            rows = counted(read_rows(journal.path, skip=DETAILS)[0])[0]
        except FileNotFoundError:  # sealed this moment: its trials stand in the table
            continue
        yield from ((attempt, journal.cause is None) for attempt in attempts(journal, rows))


def _is_running(attempt: Attempt, is_open: bool) -> bool:
    return is_open and attempt.end is None and not attempt.interrupted


def _last_place(begun: Iterable[tuple[Attempt, bool]], row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return where a trial was begun last: an attempt that has no row yet comes after those that have one."""
    latest = max((attempt for attempt, _ in begun), key=lambda attempt: attempt.start.get("time", 0.0), default=None)
    return latest.place if latest else row


def _row(folder: ScanFolder, key: str) -> Mapping[str, Any]:
    table = store.read_trials(folder, ROW)
    rows = table.filter(pc.equal(table["trial"], key)).to_pylist()
    return rows[0] if rows else {}


def _process(place: Mapping[str, Any]) -> tuple[str, int]:
    return place.get("host") or "", place.get("pid") or 0


def _processes(folder: ScanFolder, bundle: str) -> set[tuple[str, int]]:
    table = store.read_trials(folder, ("bundle", "host", "pid"))
    return {_process(row) for row in table.filter(pc.equal(table["bundle"], bundle)).to_pylist()}


def _logs_of(folder: ScanFolder, bundle: str, processes: Iterable[tuple[str, int]]) -> tuple[Log, ...]:
    names = {f"{host}-{pid}.log" for host, pid in processes}
    return tuple(log for log in logs(folder) if (bundle and log.bundle == bundle) or log.path.name in names)


def _queued(folder: ScanFolder, key: str, scheduled: Scheduled) -> tuple[str, str] | None:
    """Return bundle and job of those that the scheduler has and that hold a trial; None where there is none."""
    for launch in {job.launch for job in scheduled.jobs}:
        place = pc.index(launch_folder.read_keys(folder, launch), key).as_py()
        for job in scheduled.jobs:
            if job.launch == launch and job.start <= place < job.stop:
                return job.bundle, job.job
    return None


def _somebody(folder: ScanFolder, scheduled: Scheduled) -> bool:
    """Return whether anybody may yet train a trial of the scan."""
    is_open = any(journal.cause is None for journal in journals(folder))
    return is_open or bool(scheduled.jobs) or bool(scheduled.error) or bool(held_by(folder))


def _told_its_end(folder: ScanFolder, bundle: str) -> bool:
    launch, _, start = bundle.rpartition("-")
    return (folder.launches / launch / "bundles" / f"{start}.json").exists()


# ---- reading and following ----


def read(found: Iterable[Log]) -> Iterator[tuple[Path, str]]:
    """Yield what is in logs, in pieces: file and text."""
    for log in found:
        yield from ((log.path, text) for text in _Tail(log.path).new())


def follow(look: Callable[[], Words], *, passed_over: Iterable[Log] = ()) -> Iterator[tuple[Path, str]]:
    """Yield what is in the logs of what `look` finds, and what is added, until it is over: file and text.

    What stood in the logs `passed_over` at that time is left out. Looked first and read then, so that nothing is missed
    that was written before the end.
    """
    tails = {log.path: _Tail(log.path, log.size) for log in passed_over}
    while True:
        found = look()
        for log in found.logs:
            yield from ((log.path, text) for text in tails.setdefault(log.path, _Tail(log.path)).new())
        if found.over:
            return
        time.sleep(POLL_SECONDS)


@dataclass
class _Tail:
    """How far a log was read."""

    path: Path
    offset: int = 0
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )

    def new(self) -> Iterator[str]:
        """Yield what was added, in pieces; nothing where the file was removed."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                while content := file.read(AT_ONCE_BYTES):
                    self.offset += len(content)
                    yield self.decoder.decode(content)
        except FileNotFoundError:
            return
