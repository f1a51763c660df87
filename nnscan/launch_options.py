"""What a launch is asked for, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nnscan.errors import Problem, ScanError
from nnscan.results.folder import ScanFolder
from nnscan.results.progress import Progress

CLUSTERS = ("local", "ray", "inline")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """How a launch runs: nothing here changes what comes out."""

    cluster: str = "local"
    """`local` (Ray, started here), `ray` (a cluster that runs) or `inline` (this process)."""
    address: str = ""
    """Of the running Ray cluster; "auto" finds one on this machine."""
    workers: int = 0
    """Bundles at once; 0: as many as CPUs and GPUs take."""
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
    wait: bool = False
    """Wait where another launch holds the scan folder."""

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
        if self.cluster == "inline" and self.workers > 1:
            yield Problem("--workers", f"found {self.workers}; --cluster inline is one process. Use --cluster local.")
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

    @property
    def exit_code(self) -> int:
        """0 all completed; 1 some failed, diverged or did not run; 130 interrupted."""
        if self.interrupted:
            return 130
        left = self.progress.failed + self.progress.diverged
        return int(bool(left or self.stopped or self.error))
