"""What people look for in a scan that runs: who leads, what the trials in training do, what failed.

A `progress.Follower` that is asked for details hands them every row that it reads. What is kept is bounded: a few
bytes a trial of the plan, some epochs of each trial in training as they stand in their journals, those of trials
that ended last or best, and those of the leaders.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.errors import StoreError
from nnscan.plan import read_axes, read_settings
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Row, parse
from nnscan.results.metric import smallest_wins
from nnscan.results.schema import leaves, read_schemas
from nnscan.results.scores import State
from nnscan.results.selection import Integers
from nnscan.results.tally import Best, Tally
from nnscan.results.wording import NOT_FINITE
from nnscan.trial import Kind, Status

TOP = 3
"""Configurations of a family that are told."""

KEPT_EPOCHS = 64
"""Of a trial, evenly from the first to the last: more than a spark line shows."""

KEPT_BEST = 64
"""Trials of a family with the best scores, of those that ended while they were followed: their epochs are kept."""

KEPT_ENDED = 64
"""Trials that ended last, whose epochs are kept: with others of their configuration one may lead soon."""

KEPT_FAILURES = 32

REST = 10.0
"""Reading curves of sealed trials may take one part in so many of the time."""

_TRIAL = b'"trial": "'

T = TypeVar("T")


@dataclass(frozen=True)
class Curve:
    """Metrics of epochs of a trial, from the first to the last; not of every one where there are many."""

    epochs: tuple[int, ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()

    def values(self, name: str) -> list[float]:
        """Return a metric, an element an epoch; NaN where an epoch has no number of that name."""
        return [_number(row.get(name)) for row in self.metrics]

    def has(self, name: str) -> bool:
        """Return whether any epoch has that metric."""
        return any(not math.isnan(value) for value in self.values(name))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


@dataclass(frozen=True, kw_only=True)
class Leader:
    """One of the best configurations of a family so far."""

    family: str
    configuration: str
    mean: float
    scored: int
    n: int
    """Trials of it that have a score, and all."""
    epoch: float
    """Mean of the best epochs of its trials; NaN where unknown."""
    trial: str
    """Its trial with the best score, "" where unknown: that of `curve`."""
    curve: Curve
    axes: Mapping[str, Any]
    """What varies within the family: dotted path and value."""


@dataclass(frozen=True, kw_only=True)
class InTraining:
    """A trial that an open journal tells to be in training; its writer may be dead."""

    trial: str
    family: str
    kind: str
    fold: int
    replicate: int
    attempt: int
    epochs: int
    """Asked for."""
    curve: Curve
    axes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Mishap:
    """A trial that failed or diverged."""

    trial: str
    family: str
    status: str
    failure: str
    error: str
    ended: float
    """Unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Highlights:
    """What there is to see in a scan that runs."""

    leaders: tuple[Leader, ...]
    """Family by family, best first."""
    running: tuple[InTraining, ...]
    """In the order in which they began."""
    mishaps: tuple[Mishap, ...]
    """The latest first."""


class Thinned(Generic[T]):
    """A sequence that grows and keeps about `KEPT_EPOCHS` of its elements: evenly many from start to end, and the last.

    Examples
    --------
    >>> thinned = Thinned()
    >>> for number in range(1000):
    ...     thinned.append(number)
    >>> thinned.elements()[:3], thinned.elements()[-2:], len(thinned.elements())
    ([0, 16, 32], [992, 999], 64)
    """

    def __init__(self) -> None:
        self._kept: list[T] = []
        self._every = 1
        self._count = 0
        self._last: T | None = None

    def append(self, element: T) -> None:
        """Take an element in."""
        self._last = element
        if self._count % self._every == 0:
            self._kept.append(element)
        if len(self._kept) > KEPT_EPOCHS:
            self._kept, self._every = self._kept[::2], 2 * self._every
        self._count += 1

    def elements(self) -> list[T]:
        """Return what is kept, in its order."""
        is_kept = (self._count - 1) % self._every == 0
        return self._kept if is_kept or self._last is None else [*self._kept, self._last]


@dataclass
class _Begun:
    """A trial in training: its start row, and lines of its epochs as they stand in the journal."""

    start: Row
    lines: Thinned[bytes] = field(default_factory=lambda: Thinned[bytes]())


class _BestLines:
    """Lines of the trials with the largest values; of equal ones those that came first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str]] = []
        self._lines: dict[str, Sequence[bytes]] = {}
        self._count = 0

    def add(self, value: float, trial: str, lines: Sequence[bytes]) -> None:
        self._count += 1
        if trial in self._lines or math.isnan(value):
            return
        self._lines[trial] = lines
        heapq.heappush(self._heap, (value, -self._count, trial))
        if len(self._heap) > KEPT_BEST:
            del self._lines[heapq.heappop(self._heap)[2]]

    def get(self, trial: str) -> Sequence[bytes] | None:
        return self._lines.get(trial)


class Details:
    """Gathers highlights out of the rows that a follower reads.

    Parameters
    ----------
    folder : ScanFolder
        Curves of sealed trials, and what varies, are read from it.
    tally : Tally
        The follower's.
    metric : str
        The scan's.
    """

    COLUMNS = ("family", "best_epoch", "epochs_run", "error", "ended")
    """Of trials/, beside those that a follower counts by."""

    def __init__(self, folder: ScanFolder, tally: Tally, metric: str) -> None:
        self._folder, self._tally, self._metric = folder, tally, metric
        self._begun: dict[str, _Begun] = {}
        self._ended: OrderedDict[str, Sequence[bytes]] = OrderedDict()
        self._best_lines = {family: _BestLines() for family in tally.members}
        self._curves: dict[str, Curve] = {}
        self._scores = np.full(len(tally), math.nan, dtype=np.float32)
        self._best_epochs = np.full(len(tally), -1, dtype=np.int32)
        self._mishaps: list[tuple[float, str, Mishap]] = []
        self._settings: dict[str, Mapping[str, Any]] = {}
        self._due = 0.0

    # ---- what the follower tells ----

    def begin(self, row: Row) -> None:
        """Take a start row in."""
        self._begun[row["trial"]] = _Begun(row)

    def add(self, line: bytes) -> None:
        """Take a line of an epoch in, unread; steps are not looked at."""
        start = line.find(_TRIAL) + len(_TRIAL)
        begun = self._begun.get(line[start : start + 32].decode("ascii", "replace"))
        if begun and line.startswith(b'{"row": "epoch"'):
            begun.lines.append(line)

    def end(self, row: Row) -> None:
        """Take an end row in."""
        begun = self._begun.pop(row["trial"], None)
        families = (begun.start.get("families") if begun else None) or [""]
        score = row.get("score") if row.get("metric") == self._metric else None
        if begun:
            self._keep(row["trial"], families, _number(score), tuple(begun.lines.elements()))
        self._take({**row, "family": families[0], "score": score, "ended": row.get("time")})

    def _keep(self, trial: str, families: Iterable[str], score: float, lines: Sequence[bytes]) -> None:
        """Keep the lines of a trial that ended, where it may be one that is shown."""
        self._ended[trial] = lines
        while len(self._ended) > KEPT_ENDED:
            self._ended.popitem(last=False)
        for family in families:
            if family in self._best_lines:
                self._best_lines[family].add(-score if self._smallest else score, trial, lines)

    def take_part(self, table: pa.Table) -> None:
        """Take rows of trials/ in."""
        places, known = self._tally.find_all(np.array(table["trial"].to_pylist(), dtype="S"))
        same = pc.equal(table["metric"], self._metric).fill_null(False).to_numpy() & known
        scores = table["score"].cast(pa.float32()).fill_null(math.nan).to_numpy()
        self._scores[places[same]] = scores[same]
        self._best_epochs[places[same]] = table["best_epoch"].fill_null(-1).to_numpy()[same]
        bad = pc.is_in(table["status"], value_set=pa.array([Status.FAILED.value, Status.DIVERGED.value]))
        rows = table.filter(bad)
        latest = pc.select_k_unstable(rows, KEPT_FAILURES, [("ended", "descending")]) if len(rows) else pa.array([])
        for row in rows.take(latest).to_pylist() if len(rows) else []:
            self._add_mishap({**row, "ended": row["ended"].timestamp() if row["ended"] else None})

    def _take(self, row: Row) -> None:
        place = self._tally.find(row["trial"])
        if row["status"] != Status.COMPLETED:
            self._add_mishap(row)
        elif place is not None:
            self._scores[place] = _number(row["score"])
            self._best_epochs[place] = -1 if row.get("best_epoch") is None else row["best_epoch"]

    def _add_mishap(self, row: Row) -> None:
        told = {name: str(row.get(name) or "") for name in ("trial", "family", "status", "failure", "error")}
        if told["status"] == Status.DIVERGED and not told["error"]:
            told["error"] = f"{NOT_FINITE} in epoch {row.get('epochs_run')}"
        mishap = Mishap(**told, ended=_number(row.get("ended")))
        item = (0.0 if math.isnan(mishap.ended) else mishap.ended, mishap.trial, mishap)
        if not any(item[:2] == other[:2] for other in self._mishaps):  # met in the journal, then in the part
            self._mishaps = heapq.nlargest(KEPT_FAILURES, [*self._mishaps, item], key=lambda one: one[:2])

    # ---- what there is to see ----

    def look(self, running: Iterable[str], counts: Integers) -> Highlights:
        """Return the highlights as of now.

        Parameters
        ----------
        running : iterable of str
            Trials that open journals tell to be in training.
        counts : array
            As `Tally.counts` returns them.
        """
        running = set(running)
        self._begun = {trial: begun for trial, begun in self._begun.items() if trial in running}
        leaders = [(family, best) for family in self._tally.members for best in self._best(family, counts)]
        trials = [self._best_trial(best.configuration) for _, best in leaders]
        self._learn(filter(None, trials), (best.configuration for _, best in leaders))
        return Highlights(
            leaders=tuple(self._leader(*one, trial) for one, trial in zip(leaders, trials, strict=True)),
            running=tuple(map(self._in_training, self._begun.values())),
            mishaps=tuple(self._standing_mishaps()),
        )

    def _best(self, family: str, counts: Integers) -> list[Best]:
        return self._tally.leaders(family, counts, smallest=self._smallest, top=TOP)

    @cached_property
    def _smallest(self) -> bool:
        return smallest_wins(self._metric)

    @cached_property
    def _axes(self) -> Mapping[str, Sequence[str]]:
        with suppress(StoreError):
            return read_axes(self._folder)
        return {}

    def _best_trial(self, configuration: str) -> str:
        places = self._tally.members_of(configuration)
        scores = self._scores[places]
        if not np.isfinite(scores).any():
            return ""
        best = np.nanargmin(scores) if self._smallest else np.nanargmax(scores)
        return self._tally.key(int(places[best]))

    def _leader(self, family: str, best: Best, trial: str) -> Leader:
        epochs = self._best_epochs[self._tally.members_of(best.configuration)]
        known = epochs[epochs >= 0]
        return Leader(
            family=family,
            configuration=best.configuration,
            mean=best.mean,
            scored=best.scored,
            n=best.n,
            epoch=float(known.mean()) if len(known) else math.nan,
            trial=trial,
            curve=self._curves.get(trial, Curve()),
            axes=self._varied(family, self._settings.get(best.configuration, {})),
        )

    def _in_training(self, begun: _Begun) -> InTraining:
        start = begun.start
        family = (start.get("families") or [""])[0]
        return InTraining(
            trial=start["trial"],
            family=family,
            kind=start.get("kind", Kind.TRIAL.value),
            fold=start.get("fold", 0),
            replicate=start.get("replicate", 0),
            attempt=start.get("attempt", 1),
            epochs=start.get("epochs", 0),
            curve=curve_of(filter(None, map(parse, begun.lines.elements()))),
            axes=self._varied(family, start.get("settings") or {}),
        )

    def _varied(self, family: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        values = dict(leaves(settings))
        return {path: values[path] for path in self._axes.get(family, ()) if path in values}

    def _standing_mishaps(self) -> Iterator[Mishap]:
        """Yield those whose trials have not been tried again, or are to be."""
        told = set()
        for _, trial, mishap in self._mishaps:
            place = self._tally.find(trial)
            stands = place is not None and self._tally.state(place) in (State.FAILED, State.DIVERGED)
            if stands and trial not in told:
                told.add(trial)
                yield mishap

    # ---- what is not in the rows that were just read ----

    def _learn(self, trials: Iterable[str], configurations: Iterable[str]) -> None:
        """Find curves and settings of the leaders: those that ended just now are at hand, the others are read."""
        trials, configurations = list(trials), list(configurations)
        known = {trial: curve for trial, curve in self._curves.items() if trial in trials}
        at_hand = {trial: lines for trial in trials if trial not in known and (lines := self._at_hand(trial))}
        self._curves = known | {trial: curve_of(filter(None, map(parse, lines))) for trial, lines in at_hand.items()}
        unread = [trial for trial in trials if trial not in self._curves]
        unknown = [key for key in configurations if key not in self._settings]
        if (unread or unknown) and (began := time.monotonic()) >= self._due:
            self._read(unread, unknown)
            self._due = time.monotonic() + REST * (time.monotonic() - began)

    def _at_hand(self, trial: str) -> Sequence[bytes] | None:
        kept = (best.get(trial) for best in self._best_lines.values())
        return self._ended.get(trial) or next(filter(None, kept), None)

    def _read(self, trials: Sequence[str], configurations: Sequence[str]) -> None:
        """Read what is missing; what does not read is not told, whoever launches or summarizes meets it."""
        with suppress(StoreError):
            self._settings |= read_settings(self._folder, configurations) if configurations else {}
        if trials:
            self._curves |= dict.fromkeys(trials, Curve())
            with suppress(StoreError):
                self._curves |= read_curves(self._folder, trials, self._metric)


def curve_of(rows: Iterable[Row]) -> Curve:
    """Return the curve that epoch rows of a journal tell."""
    told = {row["epoch"]: row["metrics"] for row in rows if isinstance(row.get("metrics"), dict) and "epoch" in row}
    epochs = tuple(sorted(told))
    return Curve(epochs, tuple(told[epoch] for epoch in epochs))


def read_curves(folder: ScanFolder, trials: Sequence[str], metric: str) -> dict[str, Curve]:
    """Return the curves of ended trials, thinned; the losses and `metric` of them."""
    schemas = read_schemas(folder)
    names = [name for name in dict.fromkeys(("train_loss", "val_loss", metric)) if schemas and name in schemas.metrics]
    rows: dict[str, Thinned[Row]] = {}
    for row in store.read_epochs(folder, trials, ["trial", "epoch", *names]).sort_by("epoch").to_pylist():
        rows.setdefault(row["trial"], Thinned()).append(_epoch_row(row, names))
    return {trial: curve_of(found.elements()) for trial, found in rows.items()}


def _epoch_row(row: Row, names: Iterable[str]) -> Row:
    return {"epoch": row["epoch"], "metrics": {name: row[name] for name in names}}
