"""One attempt at a trial: its epochs go into the journal, its end is told in one row."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from nnscan.allocation import AllocationEndedError
from nnscan.dotted import is_dotted
from nnscan.errors import DataError, StoreError
from nnscan.failure import Thrown, describe
from nnscan.results.metric import best_epoch, smallest_wins
from nnscan.training.place import TakenOverError
from nnscan.trial import Kind, Status, Trial

Metrics = dict[str, Any]

StepValues = Mapping[str, list[float]]
"""By name, one value a step of an epoch."""


class CancelledError(Exception):
    """The trial was cancelled: it ends unfinished."""


class NotTogetherError(Exception):
    """The trials of a group cannot go on together, and whose fault it is is not known: each is made again."""


class Record(Protocol):
    """Takes the rows of an attempt: a journal's writer, or nobody."""

    def start(self, row: Mapping[str, Any]) -> None:
        """Take the first row."""
        ...

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Take an epoch."""
        ...

    def steps(self, row: Mapping[str, Any]) -> None:
        """Take the steps of an epoch."""
        ...

    def end(self, row: Mapping[str, Any]) -> None:
        """Take the last row."""
        ...

    def interrupted(self, trial: str, reason: str = "") -> None:
        """Take that there is no result."""
        ...


class Training(Protocol):
    """A trial being trained: by nnscan's own loop, or by a user's function."""

    @property
    def first_epoch(self) -> int:
        """Number of the first row: 0 where the untrained network is evaluated first."""
        ...

    def columns(self) -> Metrics:
        """Return what the end row says of it whatever comes: fingerprints, size; asked at the start and at the end."""
        ...

    def epochs(self) -> Iterator[Metrics | None]:
        """Yield the metrics of each epoch; an attempt that resumes yields those of its checkpoint again.

        None where it can be left for a while within an epoch.
        """
        ...

    def steps(self, epoch: int) -> StepValues:
        """Return what was measured in each step of an epoch that `epochs` has yielded; nothing where none was asked."""
        ...

    def finish(self) -> Metrics:
        """Do what comes after the last epoch; return what the end row says beyond the epochs."""
        ...

    def remove_checkpoints(self) -> None:
        """Remove what only an unfinished training needs."""
        ...


@dataclass
class Curve:
    """The epochs of an attempt as they come."""

    metric: str
    chooses: bool = True
    """Whether it has a best epoch: what a retraining measures, on the test set, chooses nothing."""
    first_epoch: int = 0
    scores: list[float] = field(default_factory=list)
    rows: list[Metrics] = field(default_factory=list)

    def add(self, row: Metrics) -> int:
        """Take the row of the next epoch; return the epoch's number."""
        self.scores.append(row.get(self.metric, math.nan))
        self.rows.append(row)
        return self.first_epoch + len(self.rows) - 1

    @property
    def diverged(self) -> bool:
        """Whether a loss, or an error, of the last epoch is not finite."""
        last = self.rows[-1] if self.rows else {}
        return any(not math.isfinite(value) for name, value in last.items() if smallest_wins(name))

    def columns(self) -> Metrics:
        """Return what the end row says of the epochs."""
        best = self._best()
        return {
            "metric": self.metric,
            "score": None if best is None else self.scores[best],
            "best_epoch": None if best is None else best + self.first_epoch,
            "epochs_run": max(0, self.first_epoch + len(self.rows) - 1),
        }

    def metrics(self) -> Metrics:
        """Return the metrics of the best epoch; of the last where there is none, as in a retraining."""
        best = self._best()
        return self.rows[-1 if best is None else best] if self.rows else {}

    def _best(self) -> int | None:
        return best_epoch(self.scores, smallest_wins(self.metric)) if self.chooses else None


@dataclass(frozen=True)
class Ending:
    """How an attempt ended."""

    status: Status
    thrown: Thrown | None = None


@dataclass(frozen=True)
class Lead:
    """What an attempt asks of whoever leads it."""

    explain: Callable[[BaseException], Thrown] = describe
    """Returns what the attempt failed of: with several ranks not always what this one threw."""
    check: Callable[[], None] = lambda: None
    """Called after each epoch; raises where the attempt is to end."""


UNLED = Lead()


def run(
    trial: Trial,
    number: int,
    record: Record,
    open_training: Callable[[], Training],
    metric: str,
    lead: Lead = UNLED,
) -> Ending:
    """Make the attempt `number` at `trial`, written into `record`, and return how it ended.

    Raises
    ------
    StoreError, DataError, TakenOverError, AllocationEndedError, CancelledError, KeyboardInterrupt
        Where it is not the trial's fault: the attempt has no end row and is made again.
    """
    running = begin(trial, number, record, open_training, metric, lead)
    while True:
        try:
            next(running)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]


Running = Generator[None, None, Ending]
"""An attempt that goes on when it is asked: it yields when its training is open, and after each epoch. Closed, it has
no result."""


def begin(
    trial: Trial,
    number: int,
    record: Record,
    open_training: Callable[[], Training],
    metric: str,
    lead: Lead = UNLED,
) -> Running:
    """Return an attempt that `run` makes, to be gone on with epoch by epoch; what is raised is the same."""
    started = time.time()
    record.start(_start_row(trial, number, started))
    curve = Curve(metric, chooses=trial.kind is Kind.TRIAL)
    more: Metrics = {}
    try:
        training = open_training()
        more = training.columns()
        curve.first_epoch = training.first_epoch
        yield
        found = yield from _follow(trial, training, curve, record, lead)
        more = {**training.columns(), **found}
        ending = Ending(Status.DIVERGED if curve.diverged else Status.COMPLETED)
    except BaseException as error:  # whatever a user's code throws is a result, SystemExit too
        if _is_no_result(error, trial):
            record.interrupted(trial.key, _reason(error))
            raise
        ending = Ending(Status.FAILED, lead.explain(error))
    metrics = {**curve.metrics(), **more.pop("metrics", {})}
    record.end({**_end_row(trial, number, ending), **curve.columns(), **more, **_times(started), "metrics": metrics})
    return ending


def _is_no_result(error: BaseException, trial: Trial) -> bool:
    """Return whether `error` tells of the place, not of `trial`: its end, a full disk, data that have vanished."""
    if isinstance(error, DataError):
        name = trial.settings["data"].get("name", "")
        return bool(name) and not is_dotted(name)  # what a user's function returns depends on the configuration
    ends = AllocationEndedError | CancelledError | NotTogetherError | GeneratorExit
    return isinstance(error, StoreError | TakenOverError | KeyboardInterrupt | ends)


def _reason(error: BaseException) -> str:
    match error:
        case AllocationEndedError():
            return error.reason.value
        case CancelledError():
            return "cancelled"
    return ""


def _follow(
    trial: Trial, training: Training, curve: Curve, record: Record, lead: Lead
) -> Generator[None, None, Metrics]:
    """Write the epochs as they come; a diverged training is left, one that came to its end is finished."""
    for row in training.epochs():
        if row is None:
            yield
            continue
        epoch = curve.add(row)
        record.epoch({"trial": trial.key, "epoch": epoch, "metrics": row})
        if steps := training.steps(epoch):
            record.steps({"trial": trial.key, "epoch": epoch, "values": steps})
        if curve.diverged:
            break
        lead.check()
        yield
    more = {} if curve.diverged else training.finish()
    training.remove_checkpoints()
    return more


def _start_row(trial: Trial, number: int, started: float) -> dict[str, Any]:
    """Return the start row: a journal tells all of a trial without any other file."""
    return {
        "trial": trial.key,
        "attempt": number,
        "configuration": trial.configuration,
        "families": list(trial.families),
        "kind": trial.kind.value,
        "fold": trial.fold,
        "replicate": trial.replicate,
        "epochs": trial.epochs,
        "settings": trial.settings,
        "time": started,
    }


def _end_row(trial: Trial, number: int, ending: Ending) -> dict[str, Any]:
    thrown = ending.thrown
    return {
        "trial": trial.key,
        "attempt": number,
        "status": ending.status.value,
        "failure": thrown.failure.value if thrown else "",
        "error": thrown.error if thrown else "",
        "traceback": thrown.traceback if thrown else "",
    }


def _times(started: float) -> dict[str, float]:
    now = time.time()
    return {"time": now, "seconds": now - started}
