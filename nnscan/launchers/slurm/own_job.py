"""What a job of Slurm knows of itself, and asks of Slurm: its name, its time, to be queued again."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from nnscan.launchers.slurm.command import SlurmError, run

AWAY_SECONDS = 5.0
"""Between two questions to a controller that is away; each takes 9 s to fail, too (MessageTimeout = 10)."""

REFUSALS = 5
REFUSAL_SECONDS = 2.0
"""So often, and so far apart, is asked again what Slurm refused: it may be about to start or end this very job."""

_AWAY = re.compile(
    r"unable to contact|no answer within|connection (refused|failure)|timed out|temporarily|zero bytes", re.I
)

T = TypeVar("T")


@dataclass(frozen=True)
class OwnJob:
    """The job that this process runs in."""

    number: str
    """As Slurm takes it: "123", or "123_4" of an array, where "123" would mean all its tasks."""
    restart: int = 0
    """How often it was queued again."""

    @classmethod
    def here(cls, variables: Mapping[str, str] = os.environ) -> OwnJob:
        """Return the one whose variables these are."""
        array, task = variables.get("SLURM_ARRAY_JOB_ID"), variables.get("SLURM_ARRAY_TASK_ID")
        number = f"{array}_{task}" if array else variables.get("SLURM_JOB_ID", "none")
        return cls(number, int(variables.get("SLURM_RESTART_COUNT", 0)))

    def time(self) -> Time:
        """Return what Slurm says of its time; endless where it says nothing. Waits for a controller that is away."""
        try:
            return read_time(patiently(lambda: run(["squeue", "--noheader", "--jobs", self.number, "--format=%L %l"])))
        except SlurmError as error:
            print(f"nnscan: taken to be without an end, as its time is not told: {error}", flush=True)
            return Time()

    def requeue(self) -> None:
        """Have it queued again: Slurm then ends all its processes. Waits for a controller that is away.

        Raises
        ------
        SlurmError
            Where Slurm refuses.
        """
        patiently(lambda: run(["scontrol", "requeue", self.number]))


@dataclass(frozen=True)
class Time:
    """Of a job, in seconds."""

    left: float = math.inf
    limit: float = math.inf


def read_time(text: str) -> Time:
    """Return the time left and the time limit that squeue printed ("%L %l").

    Examples
    --------
    >>> read_time("59:30 1:00:00")
    Time(left=3570.0, limit=3600.0)
    """
    left, limit = [*map(_seconds, text.split()[:2]), math.inf, math.inf][:2]
    return Time(left, limit)


def _seconds(text: str) -> float:
    """Return seconds of "[D-][[HH:]MM:]SS"; infinity of words such as UNLIMITED."""
    days, _, rest = text.rpartition("-")
    if not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}", text):
        return math.inf
    seconds = 0
    for part in rest.split(":"):
        seconds = 60 * seconds + int(part)
    return float(86400 * int(days or 0) + seconds)


def patiently(ask: Callable[[], T]) -> T:
    """Return what Slurm answers: while its controller is away it is asked again and again, else a few times."""
    refused = 0
    while True:
        try:
            return ask()
        except SlurmError as error:
            away = is_away(str(error))
            refused += not away
            if refused >= REFUSALS:
                raise
            print(f"nnscan: asking Slurm again: {error}", flush=True)
            time.sleep(AWAY_SECONDS if away else REFUSAL_SECONDS)


def is_away(words: str) -> bool:
    """Return whether a command of Slurm said that no controller answers."""
    return bool(_AWAY.search(words))
