"""Bundles run as trials of Ray Tune, on a Ray started for them or on a cluster that runs.

Ray lives in a process of its own (`ray_driver`), never in the launching one: whatever Ray hangs in, prints or dies of,
the launch goes on to say so, and the launching process stays small. The driver ends when its standard input closes, so
the death of the launching process ends Ray too.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnscan.bundles import Bundle, Bundles
from nnscan.errors import LauncherError
from nnscan.launchers import BundleOutcome, child
from nnscan.launchers.ray.leftovers import children
from nnscan.launchers.session import end_session
from nnscan.results.folder import told

SHUTDOWN_SECONDS = 3.0  # for the driver, which needs 0.1 s unless Ray holds its interpreter

DAEMONS = ("gcs_server", "raylet")
WATCH_SECONDS = 0.4
LOOKS = 3
"""A daemon is dead that was missed so often: between its log and its start lie some milliseconds."""
LINES = 20
"""Of the log of a daemon that died; the rest goes with Ray's folder."""

_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files a bundle
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Tune's own takes 12 to 15 s
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # the state of a scan stands in its journals
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # data roots may be relative
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing phones home
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Named for its first use: with it Ray takes 127.0.0.1 for its address, and its servers listen there alone."""


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """What a trial needs and where Ray is."""

    address: str = ""
    """Of a running cluster ("auto" finds one); empty: Ray is started here, on the loopback interface."""
    workers: int = 0
    """Bundles at once; 0: as many as CPUs and GPUs take."""
    processes: int = 1
    """Of a trial."""
    nodes: int = 1
    """Over which they are spread."""
    cpus_per_trial: int = 1
    """Of all its processes together."""
    gpus_per_trial: float = 0.0
    trains_networks: bool = True
    """Whether workers make torch ready before their first bundle."""


class RayLauncher:
    """Ray Tune, a Tune trial a bundle. Starting takes seconds: make it early, submit when the plan stands."""

    def __init__(self, folder: Path, code: Path, options: RayOptions) -> None:
        self._ray_folder = _new_folder()
        self._log = folder / "logs" / "ray.log"
        environment = {**os.environ, **_QUIET, **({} if options.address else _LOOPBACK)}
        self._driver = child.start("nnscan.launchers.ray.driver", self._log, code, environment)
        self._guard = self._start_guard(code)
        self._storage = folder / ".ray"
        request = {**asdict(options), "ray_folder": str(self._ray_folder), "storage": str(self._storage)}
        child.say(self._driver, {**request, "folder": str(folder), "code": str(code)})
        self._daemon_died = False
        if not options.address:
            threading.Thread(target=self._watch_daemons, daemon=True).start()

    def _start_guard(self, code: Path) -> subprocess.Popen[str]:
        """Start the process that ends what is left when this one is killed."""
        guard = subprocess.Popen(
            [sys.executable, "-m", "nnscan.launchers.ray.leftovers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=code,
            start_new_session=True,
        )
        child.say(guard, {"session": self._driver.pid, "folder": str(self._ray_folder)})
        return guard

    def submit(self, bundles: Bundles) -> RaySubmission:
        """Hand over `bundles`; Ray's workers cut them as they ask."""
        child.say(self._driver, asdict(bundles))
        return RaySubmission(self, bundles.trials)

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what the driver says until it says that all is done.

        Raises
        ------
        LauncherError
            Where the driver, or a daemon of Ray, dies before that.
        """
        for line in child.opened(self._driver.stdout):
            event = json.loads(line)
            if event["event"] == "end":
                return
            if event["event"] == "error":
                raise LauncherError(f"{event['message']} The log is {self._log}.")
            yield event
        died = f"The process that drives Ray died (exit status {self._driver.wait()})."
        died = "A daemon of Ray died." if self._daemon_died else died
        raise LauncherError(f"{died} Everything that had finished is kept. The log is {self._log}.")

    def _watch_daemons(self) -> None:
        """End the driver and Ray when raylet or GCS dies: Ray itself would hang for minutes (measured with 2.60).

        The driver cannot do it: Ray holds its interpreter while it waits for a daemon. And Ray may have reaped one
        before we look, so one that has a log and does not live is dead. One that dies before it opens its log, in its
        first milliseconds, is given up by Ray after 30 s.
        """
        logs = self._ray_folder / "session_latest" / "logs"
        looks_in_vain = 0
        while looks_in_vain < LOOKS and self._driver.poll() is None:
            time.sleep(WATCH_SECONDS)
            begun = {name for name in DAEMONS if (logs / f"{name}.out").exists()}
            looks_in_vain = looks_in_vain + 1 if begun - children(self._driver.pid) else 0
        if self._driver.poll() is None:
            self._daemon_died = True
            self._keep_logs(logs / f"{name}.out" for name in sorted(begun))
            end_session(self._driver.pid)

    def _keep_logs(self, paths: Iterable[Path]) -> None:
        with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as log:
            for path in paths:
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
                log.write("\n".join([f"The end of {path}:", *lines[-LINES:], ""]))

    def close(self) -> None:
        """End the driver, Ray and the workers; when this returns none of them is left."""
        child.hang_up(self._driver)
        child.end(self._driver, SHUTDOWN_SECONDS)
        end_session(self._driver.pid)
        self._guard.kill()  # nothing is left for it to do
        self._guard.wait()
        for stream in (self._driver.stdout, self._guard.stdin):
            child.opened(stream).close()
        shutil.rmtree(self._ray_folder, ignore_errors=True)
        shutil.rmtree(self._storage, ignore_errors=True)


@dataclass(frozen=True)
class RaySubmission:
    """Bundles that Ray runs."""

    launcher: RayLauncher
    trials: int

    def __iter__(self) -> Iterator[BundleOutcome]:
        """Yield an outcome a bundle as they come; Tune takes another second after the last, which is not waited for."""
        left = self.trials
        for event in self.launcher.events():
            bundle = Bundle(**event["bundle"])
            yield BundleOutcome(bundle, event["error"])
            left -= bundle.stop - bundle.start
            if not left:
                return

    def cancel(self) -> None:
        """End every bundle and Ray with them."""
        self.launcher.close()


def _new_folder() -> Path:
    """Return a new folder for Ray. Paths of sockets in it must stay under 107 characters: so not in the scan folder."""
    with told(Path("/tmp/nnscan-ray-*")):  # noqa: S108
        return Path(tempfile.mkdtemp(prefix="nnscan-ray-", dir="/tmp"))
