"""What a launch is asked for, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nnscan.errors import Problem, ScanError
from nnscan.fusing import AUTO, OFF
from nnscan.results.folder import ScanFolder
from nnscan.results.progress import Progress

CLUSTERS = ("local", "ray", "slurm", "inline")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How a launch runs: nothing here changes what comes out."""

    cluster: str = "local"
    """`local` (Ray, started here), `ray` (a cluster that runs), `slurm` or `inline` (this process, or its forks)."""
    address: str = ""
    """Of the running Ray cluster; "auto" finds one on this machine."""
    profile: str = ""
    """Of Slurm: a file, or the name of one in ./slurm or of those that come along; "": the default."""
    workers: int = 0
    """Bundles at once; 0: as many as CPUs and GPUs take, `inline` one. More than one makes `inline` fork workers."""
    limit: int = 0
    """At most so many trials; 0: all."""
    trial: str = ""
    """Prefix of a trial's key: that trial alone runs, whatever became of it before."""
    retry_failed: bool = False
    """Run failed trials again."""
    accept_changed: bool = False
    """Go on although data or code are not what the stored results were made with."""
    download: bool = False
    """Let torchvision download data sets that are missing."""
    fuse: str = AUTO
    """How many trials of one shape a worker trains together: `auto` where that is faster, `off`, or a number."""
    wait: bool = False
    """Wait where another launch holds the scan folder; on Slurm also for the end of the jobs."""

    def __post_init__(self) -> None:
        """Refuse what no launch can do, all at once."""
        problems = list(self._problems())
        if problems:
            raise ScanError("options", problems)

    def _problems(self) -> Iterator[Problem]:
        if self.cluster not in CLUSTERS:
            yield Problem("--cluster", f"found {self.cluster!r}; it is one of {', '.join(CLUSTERS)}.")
        if self.cluster == "ray" and not self.address:
            yield Problem("--address", "--cluster ray joins a cluster that runs: give its address, or auto.")
        if self.cluster != "ray" and self.address:
            yield Problem("--address", f"goes with --cluster ray, not with --cluster {self.cluster}.")
        if self.cluster != "slurm" and self.profile:
            yield Problem("--profile", f"goes with --cluster slurm, not with --cluster {self.cluster}.")
        if self.fuse not in (AUTO, OFF) and not (self.fuse.isdecimal() and int(self.fuse)):
            message = f"found {self.fuse!r}; it is {AUTO}, {OFF}, or how many trials are trained together, 1 or more."
            yield Problem("--fuse", message)
        for name in ("workers", "limit"):
            if getattr(self, name) < 0:
                yield Problem(f"--{name}", f"found {getattr(self, name)}; it is 0 or more.")


@dataclass(frozen=True, kw_only=True)
class FailedTrial:
    """A trial that failed, for people."""

    key: str
    error: str
    traceback: str
    command: str
    """Reruns that trial alone."""


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """An array of jobs, or a single one, as it was handed to Slurm."""

    job: str
    """Its number."""
    bundles: int
    """Tasks of the array; 1 of a single job."""
    trials: int
    minutes: int
    """Walltime of each task."""
    partition: str
    """"" where Slurm chooses its default."""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What a launch handed to Slurm."""

    launch: str
    """Name of the launch."""
    jobs: tuple[SubmittedJob, ...]
    retrain_job: str = ""
    """The one that retrains the winners after all others."""
    note: str = ""
    """What could not be found out before."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a launch ended."""

    folder: ScanFolder
    launched: int
    """Trials handed over."""
    progress: Progress
    """The whole scan afterwards."""
    failures: tuple[FailedTrial, ...] = ()
    """The first few."""
    stopped: str = ""
    """Why workers were asked to stop before the end: the text of the file `stop`."""
    interrupted: bool = False
    """Ctrl-C, or SIGTERM."""
    error: str = ""
    """Why the back-end, or a worker, gave up."""
    seconds: float = 0.0
    submitted: Submitted | None = None
    """On Slurm: the jobs. Without `wait` they may not have begun."""
    elsewhere: int = 0
    """Trials that jobs of earlier launches are to train."""
    waited: bool = True
    """Whether this is the end: false where jobs were submitted, or are left alone, and go on by themselves."""

    @property
    def exit_code(self) -> int:
        """0 all completed, or submitted; 1 some failed, diverged or did not run; 130 interrupted."""
        if self.interrupted:
            return 130
        if not self.waited:
            return int(bool(self.error))
        left = self.progress.failed + self.progress.diverged
        return int(bool(left or self.stopped or self.error))
