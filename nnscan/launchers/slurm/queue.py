"""What the scheduler says of the jobs of a scan: one squeue for all of them, at most one in ten seconds.

squeue, not sacct: a cluster need not keep accounts, and while its database is away nothing is lost that squeue says.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnscan.launchers.slurm.command import COMMAND_SECONDS, SlurmError, run
from nnscan.results.folder import ScanFolder, write_atomically

POLL_SECONDS = 10.0
"""Between two queries for a scan, whoever asks."""

ENDED = frozenset(["BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"])
"""States that a job of ours does not leave. NODE_FAIL and PREEMPTED are not among them: Slurm requeues such a job, and
where it does not, squeue forgets it some minutes later."""

_FORMAT = "%F|%K|%T|%N|%L|%r|%o"
_FIELDS = _FORMAT.count("|")
_SCRIPT = re.compile(r"/launches/([^/]+)/submitit/")
_TASKS = re.compile(r"(\d+)(?:-(\d+)(?::(\d+))?)?")


@dataclass(frozen=True)
class JobState:
    """What the scheduler says of one job, or of one task of an array."""

    state: str
    """In Slurm's words: PENDING, RUNNING, COMPLETING, CANCELLED, ..."""
    reason: str = ""
    """Why it waits, or how it ended: Resources, Priority, QOSMaxJobsPerUserLimit, ...; "" where there is none."""
    node: str = ""
    """Where it runs: "nn1", "nn[1-2]"."""
    seconds_left: float | None = None
    """Of its time; None where it is not known or has no limit."""


GONE = JobState("")
"""What is said of a job that the scheduler does not know, or no longer."""


@dataclass(frozen=True)
class Queue:
    """The jobs of a scan, as the scheduler told last."""

    states: Mapping[str, JobState] = field(default_factory=dict)
    """By job: "123_4" for a task of an array, pending ones too, else "123"."""
    error: str = ""
    """Why the last query got no answer; the states are then those of the query before."""
    asked: float = 0.0
    """Unix seconds of the query that the states are from."""
    launches: Mapping[str, str] = field(default_factory=dict)
    """The launch that each job number belongs to."""

    def state(self, job: str) -> JobState:
        """Return what is said of a job."""
        return self.states.get(job, GONE)


def alive(state: JobState) -> bool:
    """Return whether a job waits, runs, or is to be requeued."""
    return bool(state.state) and state.state not in ENDED


@dataclass(frozen=True)
class _Answer:
    """What the file `queue.json` holds."""

    claimed: float = 0.0
    """When somebody last set out to ask: for ten seconds nobody else does."""
    asked: float = 0.0
    error: str = ""
    lines: tuple[str, ...] = ()


_answers: dict[Path, _Answer] = {}  # of this process, where the folder cannot be written


def ask(folder: ScanFolder, users: Iterable[int]) -> Queue:
    """Return the state of every job of a scan, at most ten seconds old unless the scheduler does not answer.

    Parameters
    ----------
    folder : ScanFolder
        Of the scan.
    users : iterable of int
        Numbers of the users who submitted its jobs; nothing is asked where there are none.
    """
    uids = sorted(set(users))
    if not uids:
        return Queue(asked=time.time())
    answer = _read(folder)
    if not -POLL_SECONDS < time.time() - answer.claimed < POLL_SECONDS:
        answer = _query(folder, uids, answer)
    elif not answer.asked and not answer.error:
        answer = _wait(folder)
    return _queue(answer)


def forget(folder: ScanFolder) -> None:
    """Let the next who asks get a new answer: jobs were submitted."""
    _answers.pop(folder.queue, None)
    with suppress(OSError):
        folder.queue.unlink()


def _query(folder: ScanFolder, uids: list[int], before: _Answer) -> _Answer:
    started = time.time()
    _write(folder, _Answer(started, before.asked, before.error, before.lines))
    launches = {path.name for path in folder.launches.iterdir()}
    command = ["squeue", "--noheader", "--all", "--states=all", f"--user={','.join(map(str, uids))}", "-o", _FORMAT]
    try:
        lines = tuple(line for line in run(command).splitlines() if _launch(line) in launches)
        answer = _Answer(started, started, "", lines)
    except SlurmError as error:
        answer = _Answer(time.time(), before.asked, str(error), before.lines)  # it may have taken 20 s to say nothing
    _write(folder, answer)
    return answer


def _wait(folder: ScanFolder) -> _Answer:
    """Return the answer to the query that another process has just begun."""
    deadline = time.monotonic() + COMMAND_SECONDS
    while time.monotonic() < deadline:
        answer = _read(folder)
        if answer.asked or answer.error:
            return answer
        time.sleep(0.1)
    return _Answer(error="squeue: another process asked and got no answer")


def _read(folder: ScanFolder) -> _Answer:
    kept = _answers.get(folder.queue, _Answer())
    with suppress(OSError, ValueError, TypeError, LookupError):
        return max(kept, _plain(json.loads(folder.queue.read_bytes())), key=lambda answer: answer.claimed)
    return kept


def _plain(content: Mapping[str, Any]) -> _Answer:
    lines = tuple(map(str, content["lines"]))
    return _Answer(float(content["claimed"]), float(content["asked"]), str(content["error"]), lines)


def _write(folder: ScanFolder, answer: _Answer) -> None:
    _answers[folder.queue] = answer
    with suppress(OSError):  # a folder that may only be read: the answer stays in this process
        write_atomically(folder.queue, json.dumps(asdict(answer)).encode())


def _queue(answer: _Answer) -> Queue:
    states, launches = parse(answer.lines)
    return Queue(states, answer.error, answer.asked, launches)


def parse(lines: Iterable[str]) -> tuple[dict[str, JobState], dict[str, str]]:
    """Return the states and the launches of the jobs that squeue printed, one line a job or range of tasks."""
    states, launches = {}, {}
    for line in lines:
        job, tasks, state, node, left, reason, _ = line.split("|", _FIELDS)
        found = JobState(state, "" if reason == "None" else reason, node, seconds_of(left))
        states.update(dict.fromkeys((f"{job}_{task}" for task in expanded(tasks)), found) or {job: found})
        launches[job] = _launch(line)
    return states, launches


def _launch(line: str) -> str:
    """Return the launch that a job's script belongs to; "" where it is none of nnscan's."""
    found = _SCRIPT.search(line.split("|", _FIELDS)[-1])
    return found[1] if found else ""


def expanded(tasks: str) -> Iterator[int]:
    """Yield the tasks of an array: "4-9,12%3", "0-400:2%3", "7"; none where there is no array ("N/A")."""
    for first, last, step in _TASKS.findall(tasks.partition("%")[0]):
        yield from range(int(first), int(last or first) + 1, int(step or 1))


def seconds_of(text: str) -> float | None:
    """Return a time such as "1-02:03:04" or "4:05" in seconds; None of INVALID, UNLIMITED, NOT_SET."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in parts) or not (days.isdecimal() or not days):
        return None
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + int(part)
    return float(int(days or 0) * 86400 + seconds)
