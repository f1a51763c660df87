"""Who runs a bundle on Slurm, what it knows of the trials, and how the bundle ended: `launches/<launch>/bundles/`.

After a network cut Slurm starts a job anew on another node while its processes live on (18 s beside each other,
measured). The life of the job that claimed the bundle last has it; the other leaves, and lets its journals be.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nnscan.bundles import Bundle
from nnscan.launchers.slurm.own_job import OwnJob
from nnscan.results.folder import ScanFolder, told, write_atomically


@dataclass(frozen=True)
class Stop:
    """A trial that the end of an allocation stopped, though it had all of it."""

    allocations: int = 0
    """How many, since it got any further."""
    steps: int = -1
    """Of its newest checkpoint then; -1 without one."""


@dataclass
class Claim:
    """A bundle in the hands of one life of its job."""

    folder: ScanFolder
    bundle: Bundle
    job: OwnJob
    stops: dict[str, Stop] = field(default_factory=dict)
    """By trial: what earlier lives met is taken over with the bundle."""
    idle_lives: int = 0
    """In a row: those whose time was over before they had brought any trial on."""

    def make(self) -> bool:
        """Take the bundle over from whoever had it; return False where a later life of the job has it."""
        state = self._read()
        if state["job"] == self.job.number and state["restart"] > self.job.restart:
            return False
        self.stops = {key: Stop(**stop) for key, stop in state["stops"].items()}
        self.idle_lives = state["idle_lives"]
        self._write()
        return True

    def holds(self) -> bool:
        """Return whether nobody has taken it over since."""
        state = self._read()
        return (state["job"], state["restart"]) == (self.job.number, self.job.restart)

    def stopped(self, trial: str, steps: int) -> int:
        """Take note that a whole allocation did not do for `trial`; return how many in a row got it no further."""
        before = self.stops.get(trial, Stop())
        self.stops[trial] = Stop(0 if steps > before.steps else before.allocations + 1, steps)
        self._write()
        return self.stops[trial].allocations

    def idle(self, was_idle: bool) -> int:
        """Take note that the time of this life is over; return how many lives in a row brought no trial on."""
        self.idle_lives = self.idle_lives + 1 if was_idle else 0
        self._write()
        return self.idle_lives

    def end(self, error: str) -> None:
        """Say how the bundle ended for good: "" where every trial has a result."""
        path = self._home / f"{self.bundle.start}.json"
        with told(path):
            write_atomically(path, json.dumps({"error": error}).encode())
            self._path.unlink(missing_ok=True)

    @property
    def _home(self) -> Path:
        return self.folder.launches / self.bundle.launch / "bundles"

    @property
    def _path(self) -> Path:
        return self._home / f"{self.bundle.start}.state"

    def _read(self) -> dict[str, Any]:
        nobody = {"job": "", "restart": -1, "stops": {}, "idle_lives": 0}
        try:
            return {**nobody, **json.loads(self._path.read_bytes())}
        except (FileNotFoundError, ValueError):
            return nobody

    def _write(self) -> None:
        stops = {trial: asdict(stop) for trial, stop in self.stops.items()}
        own = {"job": self.job.number, "restart": self.job.restart}
        state = {**own, "stops": stops, "idle_lives": self.idle_lives}
        with told(self._path):
            self._home.mkdir(exist_ok=True)
            write_atomically(self._path, json.dumps(state).encode())
