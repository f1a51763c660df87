"""Launches in processes of their own, for tests that kill them: what is left of them, and how their tables compare."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

import nnscan
from nnscan.launch_options import LaunchOptions, Outcome
from nnscan.launching import launch
from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_epochs, read_trials
from nnscan.retraining import RetrainOptions, retrain_best
from nnscan.scan import load

TIME_PLACE_ATTEMPT = {
    *("attempt", "seconds", "started", "ended", "epoch_seconds", "examples_per_second"),
    *("host", "pid", "device", "threads", "processes", "fused", "bundle", "writer", "launch"),
}
"""Columns that a kill may change."""

TRAINED = """
import os
import time


def trained(seed, fold, epochs, rate):
    for epoch in range(1, epochs + 1):
        time.sleep(float(os.environ.get("PAUSE", 0)))
        yield {"loss": rate / epoch + fold + seed % 97}
"""
"""A module of a user's, `trained.py`: its losses depend on all that it is given."""


def scan_of_a_function(home: Path, *, rates: int = 5, folds: int = 2, epochs: int = 3) -> Path:
    """Write `trained.py` and a scan file of `rates * folds` trials; an epoch takes PAUSE seconds."""
    home.mkdir(exist_ok=True)
    (home / "trained.py").write_text(TRAINED)
    scan = home / "scan.toml"
    scan.write_text(f"""
name = "s"
validation.folds = {folds}
[training]
function = "trained:trained"
metrics = ["loss"]
epochs = {epochs}
[[grid]]
family = "A"
training.arguments.rate = {[float(rate) for rate in range(rates)]}
""")
    return scan


def scan_of_networks(home: Path, *, epochs: int = 3, processes: int = 1) -> Path:
    """Write a scan file of 8 small networks on the digits, each trained by `processes`; a checkpoint an epoch."""
    home.mkdir(exist_ok=True)
    scan = home / "scan.toml"
    scan.write_text(f"""
name = "s"
[data]
name = "digits"
[validation]
folds = 2
[training]
epochs = {epochs}
batch_size = 256
[resources]
checkpoint_epochs = 1
processes_per_trial = {processes}
[[grid]]
family = "MLP"
model.name = "mlp"
model.width = [8, 16]
model.dropout = 0.2
optimizer.name = "adam"
optimizer.learning_rate = [0.001, 0.003]
""")
    return scan


def launched_here(scan: Path, scans: Path, *, axes: Sequence[str] = (), **options: Any) -> Outcome:
    """Launch in this process, undisturbed."""
    with working_in(scan.parent):
        asked = load(scan, axes=axes)
        return launch(asked, ScanFolder(scans / asked.name), LaunchOptions(**{"cluster": "inline", **options}))


def retrained_here(scan: Path, scans: Path) -> Outcome:
    """Retrain the winners in this process, undisturbed."""
    with working_in(scan.parent):
        options = LaunchOptions(cluster="inline")
        return retrain_best(ScanFolder(scans / load(scan).name), RetrainOptions(epochs=2), options).outcome


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Have `folder` as the working folder, and its modules importable, in this block."""
    before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def tables(folder: Path) -> tuple[list[Any], list[Any]]:
    """Return the sorted tables trials and epochs of a scan folder, less what a kill may change."""
    found = read_trials(ScanFolder(folder)), read_epochs(ScanFolder(folder))
    keys = (("trial",), ("trial", "epoch"))
    return tuple(  # type: ignore[return-value]
        sorted(
            (_comparable(row) for row in table.to_pylist()),
            key=lambda row, own=own: [row[name] for name in own],  # type: ignore[misc]
        )
        for table, own in zip(found, keys, strict=True)
    )


def differences(found: tuple[list[Any], list[Any]], wanted: tuple[list[Any], list[Any]]) -> list[str]:
    """Return in what the tables of `found` are not those `wanted`: a line a value, or a number of rows."""
    told = []
    for table, (rows, others) in zip(("trials", "epochs"), zip(found, wanted, strict=True), strict=True):
        if len(rows) != len(others):
            told.append(f"{table}: {len(rows)} rows, not {len(others)}")
        for row, other in zip(rows, others, strict=False):
            names = [name for name in {**row, **other} if row.get(name, "none") != other.get(name, "none")]
            told += [f"{table} {row['trial'][:8]} {name}: {row.get(name)!r}, not {other.get(name)!r}" for name in names]
    return told


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items() if name not in TIME_PLACE_ATTEMPT}


def _plain(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def seeded(what: str) -> random.Random:
    """Return the chance of a test; its seed is printed, and taken from NNSCAN_TEST_SEED where that is set."""
    seed = int(os.environ.get("NNSCAN_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"{what}: NNSCAN_TEST_SEED={seed}")
    return random.Random(seed)


def patience(seconds: float) -> float:
    """Return how long to wait for what takes at most `seconds` on a machine that does nothing else."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


FINDS_NNSCAN = {**os.environ, "PYTHONPATH": str(Path(nnscan.__file__).parents[1])}
"""The environment of a process that imports the nnscan that is tested."""


def said(*arguments: str, home: Path, enter: Sequence[str] = ()) -> tuple[int, str]:
    """Return the exit status of a command of nnscan, run in `home`, and what it printed."""
    command = [*enter, sys.executable, "-m", "nnscan", *arguments]
    done = subprocess.run(command, cwd=home, env=FINDS_NNSCAN, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def _take_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup, which children inherit
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Launched:
    """`nnscan launch` in a process, and everything that comes of it."""

    def __init__(
        self,
        scan: Path,
        *arguments: str,
        enter: Sequence[str] = (),
        terminal: int | None = None,
        **environment: str,
    ) -> None:
        self.began = time.monotonic()
        self._mark = uuid4().hex
        self._log = scan.with_name(f"{self._mark}.log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*enter, sys.executable, "-m", "nnscan", "launch", str(scan), *arguments],
                cwd=scan.parent,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=log if terminal is None else terminal,
                stderr=log if terminal is None else terminal,
                start_new_session=True,
                preexec_fn=None if terminal is None else _take_terminal,
                env={**FINDS_NNSCAN, "NNSCAN_TEST_MARK": self._mark, **environment},
            )
        self._sessions = {self.process.pid}
        self._ray_folders: set[str] = set()

    @property
    def output(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Return its live processes: those with its mark, or in a session in which one with its mark was seen."""
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(OSError, psutil.Error):
                session = os.getsid(pid)
                if (
                    session not in self._sessions
                    and self._mark.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
                ):
                    continue
                self._sessions.add(session)
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
                    self._ray_folders |= set(re.findall(r"/tmp/nnscan-ray-\w+", " ".join(process.cmdline())))
        return found

    def find(self, kind: str) -> list[psutil.Process]:
        """Return its processes of a kind: launch, driver, raylet, gcs_server, nnscan-template, worker, rank."""
        return [process for process in self.processes() if self._kind(process) == kind]

    def _kind(self, process: psutil.Process) -> str:
        with contextlib.suppress(psutil.Error):
            title = " ".join(process.cmdline())
            if process.pid == self.process.pid:
                return "launch"
            if title.startswith("ray::Rank") or title.endswith("-m nnscan.ranks"):
                return "rank"
            if ("Trainable" in title and title.startswith("ray::")) or process.name() == "nnscan-worker":
                return "worker"
            return "driver" if title.endswith("nnscan.launchers.ray.driver") else process.name()  # nnscan-template
        return ""

    def kill(self, *kinds: str, number: int = signal.SIGKILL) -> list[str]:
        """Send a signal to one process of each of `kinds`, at once; return which there were."""
        found = {kind: processes[0] for kind in kinds if (processes := self.find(kind))}
        for process in found.values():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        return list(found)

    def until(self, reached: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is so, or the launch ended; return whether it is so."""
        deadline = time.monotonic() + patience(seconds)
        while not (there := reached()) and self.process.poll() is None and time.monotonic() < deadline:
            self.processes()  # meets the sessions
            time.sleep(0.02)
        return there

    def wait(self, seconds: float = 120.0) -> int:
        """Return its exit status."""
        return self.process.wait(patience(seconds))

    def left(self, seconds: float = 5.0) -> list[str]:
        """Return what is left of it after at most `seconds`; ends that, too."""
        deadline = time.monotonic() + patience(seconds)
        while (found := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        names = [f"{process.pid} {self._kind(process)}" for process in found]
        self.end()
        return names

    def end(self) -> None:
        """Kill whatever is left, and remove what nobody else does where launching process and driver were killed."""
        for _ in range(20):
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if not self.processes():
                break
            time.sleep(0.05)
        self.process.wait()
        for folder in self._ray_folders:
            shutil.rmtree(folder, ignore_errors=True)
