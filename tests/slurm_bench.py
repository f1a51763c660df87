"""Launches whose bundles run in jobs of a real Slurm, submitted with plain sbatch."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import Bench

import nnscan
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.jobs import Jobs
from nnscan.scan import Scan

ROOT = Path(nnscan.__file__).parents[1]
SUPERVISE = (
    "import sys; from nnscan.launchers.slurm.supervisor import supervise;"
    " supervise(*sys.argv[1:3], *map(int, sys.argv[3:]))"
)
POLL_SECONDS = 0.2
LONG_SECONDS = 300.0
"""For what takes a tenth of it on a machine that has nothing else to do."""


def slurm(*command: str) -> str:
    """Return what a command of Slurm printed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def wait_until(condition: Callable[[], Any], seconds: float, what: str = "") -> Any:
    """Return what `condition` returns as soon as that is true; fail where it is not in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(POLL_SECONDS)
    return found


@dataclass(frozen=True)
class Job:
    """A job that runs a bundle."""

    number: str
    bench: SlurmBench

    @property
    def state(self) -> str:
        """As squeue has it; "" where it no longer knows it, or knows that it ended."""
        done = subprocess.run(
            ["squeue", "-h", "-j", self.number, "-o", "%T"], capture_output=True, text=True, check=False
        )
        away = done.returncode and "Invalid job id" not in done.stderr
        return "UNKNOWN" if away else done.stdout.strip()

    @property
    def node(self) -> str:
        return slurm("squeue", "-h", "-j", self.number, "-o", "%N").strip()

    @property
    def restarts(self) -> int:
        """How often it was queued again."""
        words = slurm("scontrol", "show", "job", self.number).split()
        return int(next(word.partition("=")[2] for word in words if word.startswith("Restarts=")))

    @property
    def words(self) -> str:
        """What its supervisor said."""
        path = self.bench.folder.path / f"job-{self.number}.out"
        return path.read_text() if path.exists() else ""

    def wait(self) -> None:
        """Wait for its end."""
        wait_until(lambda: not self.state, LONG_SECONDS, f"the end of job {self.number}:\n{self.words}")

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        """Wait until `condition` holds; fail where it does not before the job has ended."""
        wait_until(lambda: condition() or not self.state, LONG_SECONDS, what)
        assert condition(), f"the job ended before {what}:\n{self.words}"

    def cancel(self) -> None:
        subprocess.run(["scancel", self.number], check=False)


SUBMITTED: list[Job] = []
"""Whoever submits cancels them at last."""


class SlurmBench(Bench):
    """A launch of all trials of a scan, and the job that runs them."""

    def __init__(self, scan: Scan, path: Path, **changes: Any) -> None:
        path.mkdir(parents=True, exist_ok=True)
        super().__init__(scan, path, **changes)
        self.profile()

    def profile(self, **changes: Any) -> None:
        """Note with which profile the jobs were asked for."""
        jobs = Jobs(profile={"signal_seconds": 10, **changes}, arrays=(), submitted=time.time())
        slurm_jobs.write(self.folder, self.bundle.launch, jobs)

    def submit(self, *options: str, memory_mb: int = 1500, minutes: int = 10, python_path: str = str(ROOT)) -> Job:
        """Submit the bundle; `options` are those of sbatch."""
        bundle = self.bundle
        work = [
            sys.executable,
            "-c",
            SUPERVISE,
            str(self.folder.path),
            bundle.launch,
            str(bundle.start),
            str(bundle.stop),
        ]
        script = f"#!/bin/bash\nexport PYTHONPATH={shlex.quote(python_path)}\n{shlex.join(work)}\n"
        asked = [f"--mem={memory_mb}", f"--time={minutes}", "--signal=USR2@10", "--requeue", "--open-mode=append"]
        asked.append(f"--chdir={self.folder.path}")  # where dumps of crashed processes go
        asked.append("--job-name=nnscan-bench")
        output = f"--output={self.folder.path}/job-%j.out"
        command = ["sbatch", "--parsable", output, *asked, *options]
        done = subprocess.run(command, input=script, check=True, capture_output=True, text=True)
        SUBMITTED.append(Job(done.stdout.strip(), self))
        return SUBMITTED[-1]

    @property
    def error(self) -> str | None:
        """What ended the bundle: "" where all is done; None while it is not told."""
        path = self.folder.launches / self.bundle.launch / "bundles" / f"{self.bundle.start}.json"
        return json.loads(path.read_bytes())["error"] if path.exists() else None
