"""One attempt at a trial: its epochs go into the journal, its end is told in one row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nnscan.errors import DataError, StoreError
from nnscan.failure import Thrown, describe
from nnscan.results.journal import Writer
from nnscan.results.metric import best_epoch, smallest_wins
from nnscan.trial import Status, Trial

Metrics = Mapping[str, Any]


class Training(Protocol):
    """A trial being trained: by nnscan's own loop, or by a user's function."""

    first_epoch: int
    """Number of the first row: 0 where the untrained network is evaluated first."""

    def columns(self) -> Metrics:
        """Return what the start row says of it: fingerprints."""
        ...

    def epochs(self) -> Iterator[Metrics]:
        """Yield the metrics of each epoch; an attempt that resumes yields those of its checkpoint again."""
        ...

    def finish(self) -> Metrics:
        """Do what comes after the last epoch; return what the end row says beyond the epochs."""
        ...


@dataclass
class Curve:
    """The epochs of an attempt as they come."""

    metric: str
    first_epoch: int
    scores: list[float] = field(default_factory=list)
    rows: list[Metrics] = field(default_factory=list)

    def add(self, row: Metrics) -> int:
        """Take the row of the next epoch; return the epoch's number."""
        self.scores.append(row.get(self.metric, math.nan))
        self.rows.append(row)
        return self.first_epoch + len(self.rows) - 1

    @property
    def diverged(self) -> bool:
        """Whether a loss of the last epoch is not finite."""
        last = self.rows[-1] if self.rows else {}
        return any(not math.isfinite(value) for name, value in last.items() if name.endswith("loss"))

    def columns(self) -> dict[str, Any]:
        """Return what the end row says of the epochs; without a best one the metrics are those of the last."""
        best = best_epoch(self.scores, smallest_wins(self.metric))
        known = best is not None
        return {
            "metric": self.metric,
            "score": self.scores[best] if known else None,
            "best_epoch": best + self.first_epoch if known else None,
            "epochs_run": max(0, self.first_epoch + len(self.rows) - 1),
            "metrics": dict(self.rows[best if known else -1]) if self.rows else {},
        }


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    status: Status
    thrown: Thrown | None = None


def run(trial: Trial, attempt: int, writer: Writer, open_training: Callable[[], Training], metric: str) -> Ending:
    """Make one attempt at `trial`, written by `writer`, and return how it ended.

    Raises
    ------
    StoreError, DataError
        Where it is not the trial's fault: the attempt has no end row and is made again.
    """
    started = time.time()
    training: Training | None = None
    curve = Curve(metric, first_epoch=0)
    try:
        training = open_training()
        writer.start({**start_row(trial, attempt, started), **training.columns()})
        curve.first_epoch = training.first_epoch
        more = _follow(trial, training, curve, writer)
        ending = Ending(Status.DIVERGED if curve.diverged else Status.COMPLETED)
    except (StoreError, DataError, KeyboardInterrupt):
        writer.interrupted(trial.key)
        raise
    except Exception as error:  # whatever a model throws is a result
        if training is None:
            writer.start(start_row(trial, attempt, started))
        more, ending = {}, Ending(Status.FAILED, describe(error))
    writer.end({**_end_row(trial, attempt, ending), **curve.columns(), **more, **_times(started)})
    return ending


def _follow(trial: Trial, training: Training, curve: Curve, writer: Writer) -> Metrics:
    for row in training.epochs():
        epoch = curve.add(row)
        writer.epoch({"trial": trial.key, "epoch": epoch, "metrics": dict(row)})
        if curve.diverged:
            return {}
    return training.finish()


def start_row(trial: Trial, attempt: int, started: float) -> dict[str, Any]:
    """Return the start row: a journal tells all of a trial without any other file."""
    return {
        "trial": trial.key,
        "attempt": attempt,
        "configuration": trial.configuration,
        "families": list(trial.families),
        "kind": trial.kind.value,
        "fold": trial.fold,
        "replicate": trial.replicate,
        "epochs": trial.epochs,
        "settings": trial.settings,
        "time": started,
    }


def _end_row(trial: Trial, attempt: int, ending: Ending) -> dict[str, Any]:
    thrown = ending.thrown
    return {
        "trial": trial.key,
        "attempt": attempt,
        "status": ending.status.value,
        "failure": thrown.failure.value if thrown else "",
        "error": thrown.error if thrown else "",
        "traceback": thrown.traceback if thrown else "",
    }


def _times(started: float) -> dict[str, float]:
    now = time.time()
    return {"time": now, "seconds": now - started}
