"""Epoch rows of many trials as they come, each attempt whole, for whoever shows them elsewhere (`nnscan.trackers`).

Of several attempts at a trial the one is told that counts (design rule 6); while none ended, the one that began last.
What is kept grows with the trials that are followed, and with the epochs of those in training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nnscan.plan import read_settings
from nnscan.results import store
from nnscan.results.attempts import Attempt
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import DETAILS, Journal, Row, parse
from nnscan.results.part import describe, read_groups
from nnscan.results.schema import EPOCHS_FIRST, EPOCHS_LAST, TRIALS
from nnscan.results.tails import Parts, Tail, Tails
from nnscan.trial import Kind, Status

COLUMNS = (
    *("trial", "configuration", "family", "kind", "fold", "replicate", "status", "error", "attempt", "metric", "score"),
    *("best_epoch", "epochs_run", "seconds", "started", "ended", "writer", "test_loss", "test_accuracy"),
)
"""Of trials/, as far as a track tells them."""

AT_ONCE = 200
"""Trials whose epochs are read together."""

_PART = pa.schema({name: TRIALS[name] for name in COLUMNS})
_NO_METRICS = frozenset(EPOCHS_FIRST | EPOCHS_LAST)
_EPOCH, _TRIAL = DETAILS[0], b'"trial": "'


@dataclass(frozen=True, kw_only=True)
class Track:
    """An attempt at a trial, with all its epochs so far."""

    trial: str
    configuration: str
    family: str
    kind: str
    fold: int
    replicate: int
    attempt: int
    writer: str
    """Names the attempt: no other at the trial has the same."""
    started: float
    """Unix seconds."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Metrics by epoch, ascending."""
    end: Mapping[str, Any] = field(default_factory=dict)
    """`status`, `score`, `best_epoch`, `epochs_run`, `ended` and the like; empty while it is in training."""

    @property
    def is_over(self) -> bool:
        """Whether it ended, so that nothing more comes of it."""
        return bool(self.end)


@dataclass(frozen=True)
class Selection:
    """The trials that are followed."""

    keys: frozenset[str]
    """Of the plan."""
    families: frozenset[str] = frozenset()
    """Whose retrainings are followed."""

    def takes(self, trial: str, kind: str, family: str) -> bool:
        """Return whether a trial is followed."""
        return trial in self.keys or (kind == Kind.RETRAINING and family in self.families)


@dataclass
class _Tail(Tail):
    place: Row = field(default_factory=dict)
    running: dict[str, Attempt] = field(default_factory=dict)
    closed: bool = False


@dataclass
class _Ended:
    """The attempt that counts so far, of a trial with a result."""

    order: tuple[bool, float, str]
    """As the choice between attempts has it: the smallest counts."""
    track: Track
    """Without epochs where they are stored."""
    told: bool = False


class Feed:
    """Follows the epochs of trials; any number may follow, from anywhere that sees the folder.

    Parameters
    ----------
    folder : ScanFolder
        Is read only.
    selection : Selection
        Which trials.
    """

    def __init__(self, folder: ScanFolder, selection: Selection) -> None:
        self._folder, self._selection = folder, selection
        self._tails = Tails(folder, _Tail)
        self._parts = Parts(folder)
        self._ended: dict[str, _Ended] = {}
        self._touched: dict[str, None] = {}
        self._retried: set[str] = set()
        """Failed trials of which another attempt was told since."""
        self._settings: dict[str, Mapping[str, Any]] = {}

    def poll(self, has: Callable[[Track], bool] = lambda track: False) -> Iterator[Track]:  # noqa: ARG005
        """Yield the trials of which there is something new, each with all epochs of the attempt that counts.

        Journals before parts: a journal is removed after its part is there, so no end is missed.

        Parameters
        ----------
        has : callable
            Returns whether a track that is over, given without epochs, is known already: its epochs are not read.
        """
        self._read_journals()
        self._parts.read(self._read_part)
        self._return_to_failures()
        ended = [one for one in self._ended.values() if not one.told]
        for one in ended:
            one.told = True
        yield from self._in_training()
        yield from self._over([one.track for one in ended if not has(one.track)])
        for one in ended:
            one.track = replace(one.track, epochs={}, settings={})  # whoever asked has them

    # ---- journals ----

    def _read_journals(self) -> None:
        for tail, lines in self._tails.read():
            for line in lines:
                if line.startswith(_EPOCH):
                    self._take_epoch(tail, line)
                elif not line.startswith(DETAILS) and not tail.closed:
                    self._take(tail, parse(line) or {"row": ""})

    def _take_epoch(self, tail: _Tail, line: bytes) -> None:
        start = line.find(_TRIAL) + len(_TRIAL)
        attempt = tail.running.get(line[start : start + 32].decode("ascii", "replace"))
        row = parse(line) if attempt and not tail.closed else None
        if attempt and row and isinstance(row.get("epoch"), int) and isinstance(row.get("metrics"), dict):
            attempt.epochs[row["epoch"]] = row["metrics"]
            self._touched[attempt.trial] = None

    def _take(self, tail: _Tail, row: Row) -> None:
        match row["row"]:
            case "writer":
                tail.place = row
            case "start":
                self._begin(tail, row)
            case "end":
                attempt = tail.running.pop(row["trial"], None)
                if attempt:
                    attempt.end = row
                    self._end(_of_attempt(attempt, tail.journal))
            case "interrupted":
                tail.running.pop(row["trial"], None)
            case "closed":
                tail.closed = True

    def _begin(self, tail: _Tail, row: Row) -> None:
        families = row.get("families") or [""]
        if self._selection.takes(row["trial"], row.get("kind", Kind.TRIAL.value), families[0]):
            tail.running[row["trial"]] = Attempt(tail.place, row)
            self._touched[row["trial"]] = None

    def _in_training(self) -> Iterator[Track]:
        """Yield trials with new rows that have no result yet, or failed and are tried again."""
        touched, self._touched = self._touched, {}
        for trial in touched:
            begun = self._begun(trial)
            ended = self._ended.get(trial)
            if begun and not (ended and ended.track.end["status"] != Status.FAILED):
                self._retried |= {trial} if ended else set()
                yield max(begun, key=lambda track: (track.started, track.writer))

    def _begun(self, trial: str) -> list[Track]:
        """Return the attempts at a trial that are being made."""
        writing = (tail for tail in self._tails if tail.journal.cause is None and not tail.closed)
        return [_of_attempt(tail.running[trial], tail.journal) for tail in writing if trial in tail.running]

    def _return_to_failures(self) -> None:
        """Have failures told again whose next attempts ended without a result: they count as before."""
        for trial in [trial for trial in self._retried if not self._begun(trial)]:
            self._retried.remove(trial)
            self._ended[trial].told = False

    # ---- parts ----

    def _read_part(self, path: Path) -> None:
        for group in read_groups(describe(path), _PART):
            for row in group.filter(self._mask(group)).to_pylist():
                self._end(_of_row(row))

    def _mask(self, group: pa.Table) -> pa.Array:
        wanted = pa.array(self._selection.keys, pa.string())
        families = pa.array(self._selection.families, pa.string())
        retrained = pc.and_(pc.equal(group["kind"], Kind.RETRAINING.value), pc.is_in(group["family"], families))
        return pc.or_kleene(pc.is_in(group["trial"], wanted), retrained)

    # ---- what counts ----

    def _end(self, track: Track) -> None:
        """Take an end in: of several the one stands that stands in the tables (`nnscan.results.choice`)."""
        order, known = _order(track), self._ended.get(track.trial)
        is_met_again = known and (known.track.writer, known.track.attempt) == (track.writer, track.attempt)
        if known is None or (order < known.order and not is_met_again):  # a part has its time in microseconds
            self._ended[track.trial] = _Ended(order, track)

    def _over(self, tracks: Sequence[Track]) -> Iterator[Track]:
        """Yield tracks that are over with their settings and epochs: at hand where a journal told them, else read."""
        unread = [track for track in tracks if not track.settings]
        yield from (track for track in tracks if track.settings)
        for start in range(0, len(unread), AT_ONCE):
            yield from self._read(unread[start : start + AT_ONCE])

    def _read(self, tracks: Sequence[Track]) -> Iterator[Track]:
        unknown = {track.configuration for track in tracks} - self._settings.keys()
        self._settings |= read_settings(self._folder, unknown) if unknown else {}
        rows = _epochs_by_attempt(self._folder, [track.trial for track in tracks])
        for track in tracks:
            settings = self._settings.get(track.configuration, {})
            yield replace(track, settings=settings, epochs=rows.get((track.trial, track.writer), {}))


def _order(track: Track) -> tuple[bool, float, str]:
    failed, ended = track.end["status"] == Status.FAILED, track.end.get("ended")
    # An end without a time comes last of both kinds.
    time = math.inf if ended is None else -ended if failed else ended
    return failed, time, track.writer


def _of_attempt(attempt: Attempt, journal: Journal) -> Track:
    start, end = attempt.start, attempt.end
    told = {**end, "ended": end.get("time")} if end else {}
    return Track(
        trial=attempt.trial,
        configuration=start.get("configuration", ""),
        family=(start.get("families") or [""])[0],
        kind=start.get("kind", Kind.TRIAL.value),
        fold=start.get("fold", 0),
        replicate=start.get("replicate", 0),
        attempt=attempt.number,
        writer=journal.writer,
        started=float(start.get("time") or 0.0),
        settings=start.get("settings") or {},
        epochs=dict(sorted(attempt.epochs.items())),
        end={name: told.get(name) for name in COLUMNS if name in told and name not in ("trial", "writer")},
    )


def _of_row(row: Row) -> Track:
    start, ended = row["started"], row["ended"]
    return Track(
        trial=row["trial"],
        configuration=row["configuration"] or "",
        family=row["family"] or "",
        kind=row["kind"] or Kind.TRIAL.value,
        fold=row["fold"] or 0,
        replicate=row["replicate"] or 0,
        attempt=row["attempt"] or 1,
        writer=row["writer"] or "",
        started=start.timestamp() if start else 0.0,
        end={**row, "ended": ended.timestamp() if ended else None},
    )


def _epochs_by_attempt(
    folder: ScanFolder, trials: Collection[str]
) -> dict[tuple[str, str], dict[int, Mapping[str, Any]]]:
    found: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for row in store.read_epochs(folder, trials).sort_by("epoch").to_pylist():
        metrics = {name: value for name, value in row.items() if name not in _NO_METRICS and value is not None}
        found.setdefault((row["trial"], row["writer"]), {})[row["epoch"]] = metrics
    return found


def selected(plan: pa.Table, families: Iterable[str] = (), configurations: Collection[str] | None = None) -> Selection:
    """Return the trials of a plan (columns `key`, `configuration`, `family`) that are in some families.

    Parameters
    ----------
    families : iterable of str
        Only these; without any, all.
    configurations : collection of str, optional
        Only those.
    """
    wanted = list(families) or pc.unique(plan["family"]).to_pylist()
    table = plan.filter(pc.is_in(plan["family"], pa.array(wanted, pa.string())))
    if configurations is not None:
        table = table.filter(pc.is_in(table["configuration"], pa.array(list(configurations), pa.string())))
    return Selection(frozenset(table["key"].to_pylist()), frozenset(wanted))
