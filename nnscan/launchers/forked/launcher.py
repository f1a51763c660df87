"""Bundles run in several processes of this machine, forked from a warmed one: no Ray, no server, no port.

The launching process starts the template (`nnscan.launchers.forked.template`) and talks with it through two pipes. The
template has a session of its own, so Ctrl-C is for the launching process alone, and ends with it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnscan.bundles import Bundle, Bundles
from nnscan.errors import LauncherError
from nnscan.launchers import BundleOutcome, child
from nnscan.launchers.session import end_session

SHUTDOWN_SECONDS = 3.0
"""For the template to end, which takes 0.05 s where it is not in the middle of an import."""


@dataclass(frozen=True, kw_only=True)
class ForkedOptions:
    """What workers are to be ready for."""

    threads: int = 1
    """Of each process of a trial."""
    gpus_per_trial: float = 0.0
    gpus: tuple[str, ...] = ()
    """Those of this machine that trials may take, as CUDA_VISIBLE_DEVICES names them."""
    trains_networks: bool = True
    """Whether torch is made ready."""


class ForkedLauncher:
    """Processes of this machine. The template takes seconds to get ready: make it early."""

    def __init__(self, folder: Path, code: Path, options: ForkedOptions) -> None:
        self._log = folder / "logs" / "template.log"
        self._template = child.start("nnscan.launchers.forked.template", self._log, code, _environment(options))
        request = {**asdict(options), "folder": str(folder), "code": str(code), "launcher": os.getpid()}
        child.say(self._template, request)

    def submit(self, bundles: Bundles) -> ForkedSubmission:
        """Hand over `bundles`; workers are forked at once and wait until their launch is written."""
        child.say(self._template, asdict(bundles))
        return ForkedSubmission(self, bundles.trials)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the template says of bundles until it says that all have ended.

        Raises
        ------
        LauncherError
            Where it gives up, or dies.
        """
        for line in child.opened(self._template.stdout):
            event = json.loads(line)
            if event["event"] == "end":
                return
            if event["event"] == "error":
                raise LauncherError(f"{event['message']} {self._log.parent} holds their words.")
            yield event
        raise LauncherError(
            f"The process that workers come from died (exit status {self._template.wait()}). Everything that had"
            f" finished is kept. The log is {self._log}."
        )

    def close(self) -> None:
        """End the template and the workers; when this returns none of them is left."""
        child.hang_up(self._template)
        self._template.terminate()  # while it gets ready it reads nothing
        child.end(self._template, SHUTDOWN_SECONDS)
        end_session(self._template.pid)
        child.opened(self._template.stdout).close()


@dataclass(frozen=True)
class ForkedSubmission:
    """Bundles that workers run."""

    launcher: ForkedLauncher
    trials: int

    def __iter__(self) -> Iterator[BundleOutcome]:
        """Yield an outcome a bundle as they come."""
        for event in self.launcher.events():
            yield BundleOutcome(Bundle(**event["bundle"]), event["error"])

    def cancel(self) -> None:
        """End every bundle, and the template with them."""
        self.launcher.close()


def _environment(options: ForkedOptions) -> dict[str, str]:
    """Return the environment of the template: it is to have one thread, and networks without a GPU are to see none.

    Autograd starts a thread for each GPU at a process's first step, and the template takes one.
    """
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if options.trains_networks and not options.gpus else {}
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(options.threads))}
    # Arrow's jemalloc, which is not the allocator that Arrow takes, starts a thread all the same.
    return {**os.environ, **threads, **hidden, "JE_ARROW_MALLOC_CONF": "background_thread:false"}
