"""Weights & Biases: a run a trial, with the trial's key for its id.

What was sent stands in a file beside W&B's own: so the same command goes on with the same runs. Another attempt at a
trial overwrites its run, which is what W&B does with an id that comes again without `resume`. Offline a run cannot go
on in the folder that it has: it is written whole into a new one, and the old one is removed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnscan.errors import LauncherError, Problem
from nnscan.results.feed import Track
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.trackers import end_scalars, run_name, scalars
from nnscan.trial import Status

INSTALL = "pip install 'nnscan[wandb]'"

SETTINGS = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
}
"""Metrics and settings go out, and nothing of this process or machine: it is not where the trial was trained."""


def problems() -> Iterator[Problem]:
    """Yield why W&B cannot be used here; nothing is sent for it, and nobody is asked for a key."""
    try:
        wandb = _imported()
    except ImportError:
        yield Problem("--wandb", f"the package wandb is not installed: {INSTALL}")
        return
    if not wandb.setup().settings._offline and not wandb.login(prompt=False):
        ways = "`wandb login`, or the variable WANDB_API_KEY; WANDB_MODE=offline writes to the disk alone"
        yield Problem("--wandb", f"W&B has no key here. Give it one: {ways}")


def _imported() -> Any:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it tells its makers of what goes wrong
    import wandb

    return wandb


@dataclass(frozen=True)
class _Sent:
    """What of a trial was sent."""

    writer: str
    """Of the attempt."""
    epoch: int = -1
    """The last."""
    is_over: bool = False


class WeightsAndBiases:
    """Sends tracks to a project of Weights & Biases.

    Parameters
    ----------
    folder : ScanFolder
        W&B's files, and what was sent, lie in its `wandb/`.
    project : str
        `PROJECT` or `ENTITY/PROJECT`.
    scan : str
        Name of the scan: a tag of each run.
    """

    most = 1000

    def __init__(self, folder: ScanFolder, project: str, scan: str) -> None:
        self._folder, self._scan = folder, scan
        self._entity, _, self._project = project.rpartition("/")
        self._wandb = _imported()
        self._offline = bool(self._wandb.setup().settings._offline)
        self._memory = folder.wandb / f"{project.replace('/', '.')}{'.offline' if self._offline else ''}.json"
        self._sent = _read(self._memory)
        self._runs: dict[str, Any] = {}
        self._changed = False

    def has(self, track: Track) -> bool:
        """Return whether this attempt was sent to its end."""
        sent = self._sent.get(track.trial)
        return sent is not None and sent.is_over and sent.writer == track.writer

    def take(self, track: Track) -> None:
        """Send what is new in a track; what it has not sent of another attempt overwrites the run."""
        if self.has(track):
            return
        try:
            self._send(track)
        except self._wandb.Error as error:
            raise LauncherError(f"W&B: {error}. What was sent before is kept; the same command goes on.") from error

    def _send(self, track: Track) -> None:
        run, last = self._run(track)
        for epoch in sorted(epoch for epoch in track.epochs if epoch > last):
            run.log(dict(scalars(track.epochs[epoch])), step=epoch)
        if track.is_over:
            run.summary.update({**dict(end_scalars(track)), "status": track.end["status"]})
            run.finish(exit_code=int(track.end["status"] == Status.FAILED))
            del self._runs[track.trial]
        self._sent[track.trial] = _Sent(track.writer, max([last, *track.epochs]), track.is_over)
        self._changed = True

    def _run(self, track: Track) -> tuple[Any, int]:
        """Return the run of a track, and the last epoch that it has."""
        sent = self._sent.get(track.trial)
        same = sent is not None and sent.writer == track.writer
        if same and track.trial in self._runs:
            return self._runs[track.trial], sent.epoch if sent else -1
        self._finish(track.trial)
        resumed = same and not self._offline
        if self._offline:
            self._remove(track.trial)
        self._runs[track.trial] = self._begin(track, "allow" if resumed else None)
        return self._runs[track.trial], sent.epoch if sent and resumed else -1

    def _begin(self, track: Track, resume: str | None) -> Any:
        with told(self._folder.wandb):
            self._folder.wandb.mkdir(exist_ok=True)
        return self._wandb.init(
            id=track.trial,
            project=self._project,
            entity=self._entity or None,
            name=run_name(track),
            group=track.family or None,
            job_type=track.kind,
            tags=[self._scan],
            config={**track.settings, "fold": track.fold, "replicate": track.replicate, "family": track.family},
            dir=str(self._folder.path),  # W&B makes the folder `wandb` in it
            reinit="create_new",
            resume=resume,
            settings=self._wandb.Settings(**SETTINGS),
        )

    def _remove(self, trial: str) -> None:
        """Remove what an offline run left that is written anew."""
        for path in self._folder.wandb.glob(f"offline-run-*-{trial}"):
            shutil.rmtree(path, ignore_errors=True)

    def _finish(self, trial: str) -> None:
        run = self._runs.pop(trial, None)
        if run is not None:
            run.finish()

    def flush(self) -> None:
        """Note what was sent."""
        if self._changed:
            content = {trial: asdict(sent) for trial, sent in self._sent.items()}
            with told(self._memory):
                write_atomically(self._memory, json.dumps(content).encode())
            self._changed = False

    def close(self) -> None:
        """Let go of the runs in training; the next tracker goes on with them."""
        for trial in list(self._runs):
            with suppress(self._wandb.Error):
                self._finish(trial)

    def hint(self) -> Iterator[str]:
        """Yield what to type to look at it, or to send it."""
        project = f"{self._entity}/{self._project}" if self._entity else self._project
        if self._offline:
            runs = f"{shlex.quote(str(self._folder.wandb))}/offline-run-*"
            yield f"Written for the project {project}, not sent. Send it with: wandb sync {runs}"
        else:
            yield f"Sent to the project {project} of Weights & Biases"


def _read(path: Path) -> dict[str, _Sent]:
    """Return what was sent, by the trials' keys; where that does not read, as if nothing had been."""
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {trial: _Sent(**sent) for trial, sent in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
