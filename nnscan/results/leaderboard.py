"""The leaderboard of a family: who leads, who is tied, what each axis does, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from nnscan.results import selection
from nnscan.results.scores import Axis, FamilyScores, State, axis
from nnscan.results.selection import Flags, Floats, Integers

VALIDATION = ("validation.folds", "validation.holdout")
"""Columns of trials/ that tell how large the validation part is."""


@dataclass(frozen=True, kw_only=True)
class Leader:
    """A configuration whose every trial has a score: a row of the leaderboard."""

    rank: int
    """In its family, from 1."""
    configuration: str
    """Key, 32 hex digits."""
    hyperparameters: Mapping[str, Any]
    """Value of each axis of the family by dotted path; None where it has no such option."""
    mean: float
    std: float
    """Sample standard deviation; NaN for one trial."""
    n: int
    """Trials: folds x replicates."""
    best_epoch: float
    """Mean over the trials; NaN where unknown."""
    seconds: float
    """Mean of a trial."""
    parameters: int | None
    winner: bool
    tied: bool
    """The test leaves open that it is as good as the winner (`selection.ties`); True of the winner."""
    cost: float
    """Parameters as a multiple of the winner's; NaN where unknown."""


@dataclass(frozen=True, kw_only=True)
class Incomplete:
    """A configuration that cannot win, because a trial of it is missing, failed, diverged or without a score."""

    configuration: str
    hyperparameters: Mapping[str, Any]
    mean: float
    """Of the scores there are; NaN without any."""
    scored: int
    """Trials with a score."""
    n: int
    """Trials that it has in the plan."""
    failed: int
    diverged: int
    running: int
    pending: int

    @property
    def reason(self) -> str:
        """Why it cannot win, such as "1 failed, 2 pending"."""
        states = {state: getattr(self, state) for state in ("failed", "diverged", "running", "pending")}
        scoreless = self.n - self.scored - sum(states.values())
        parts = [f"{count} {state}" for state, count in states.items() if count]
        return ", ".join([*parts, *([f"{scoreless} without a score"] if scoreless else [])])


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Scores of the complete configurations that share a value of an axis."""

    value: Any
    mean: float
    std: float
    n: int
    """Configurations."""


@dataclass(frozen=True, kw_only=True)
class Marginal:
    """The marginal effect of an axis: one `Effect` a value."""

    path: str
    effects: tuple[Effect, ...]


@dataclass(frozen=True, kw_only=True)
class Board:
    """The best of a family, or of those with one value of the hyperparameter that was asked for."""

    value: Any
    """None where the leaderboard is not grouped, and of those that have no such option."""
    leaders: tuple[Leader, ...]
    complete: int
    """Configurations that it was taken from."""


@dataclass(frozen=True, kw_only=True)
class FamilySummary:
    """A family: who leads, what matters, what is missing."""

    name: str
    axes: tuple[str, ...]
    """Hyperparameters that vary within the family."""
    configurations: int
    complete: int
    """Configurations that could win."""
    by: str
    """Hyperparameter that groups the leaderboard, "" for none."""
    boards: tuple[Board, ...]
    winner: Leader | None
    tied: int
    """Configurations tied with the winner, itself left out."""
    cheapest: Leader | None
    """Of the winner and those tied with it, the one with fewest parameters."""
    tie_factor: float | None
    """Standard deviations of the paired difference that a tied mean may lag; None where n = 1: nothing is tied."""
    marginals: tuple[Marginal, ...]
    incomplete: tuple[Incomplete, ...]
    """Those that were begun, most scored first; as many as asked."""
    begun: int
    """How many those are in all."""
    untouched: int
    """Configurations of which no trial has begun."""

    @property
    def leaders(self) -> tuple[Leader, ...]:
        """The leaderboard: of all boards, one after the other."""
        return tuple(leader for board in self.boards for leader in board.leaders)


class Family:
    """The configurations of a family, ranked; arrays have an element a configuration."""

    def __init__(self, scores: FamilyScores, trials: pa.Table, smallest: bool) -> None:
        self.scores = scores
        self.trials = trials
        self.smallest = smallest
        self.axes = tuple(_axes(trials, scores.rows))
        self.means, self.stds, self.n = scores.means, scores.stds, scores.n
        self.order = self._order()
        self.tie_factor, self.tied = self._ties()

    def _order(self) -> Integers:
        """The complete configurations, the winner first."""
        complete = np.flatnonzero(self.scores.complete)
        keys = self.scores.keys.take(pa.array(complete))
        ranks = selection.rank(self.means[complete], self.scores.parameters[complete], keys, smallest=self.smallest)
        order: Integers = complete[ranks]
        return order

    def _ties(self) -> tuple[float | None, Flags]:
        """The factor of the test, and who is tied with the winner."""
        tied = np.zeros(len(self.means), dtype=bool)
        tied[self.order[:1]] = True
        if not len(self.order) or self.n[self.order[0]] < 2:
            return None, tied
        winner = self.order[0]
        ratio = selection.validation_ratio(self._validation(winner))
        rivals = self.order[self._paired(winner)[self.order]]
        matrix = self.scores.scores[rivals][:, self.scores.planned[winner]]
        tied[rivals] = selection.ties(matrix, 0, validation_ratio=ratio, smallest=self.smallest)
        return selection.tie_factor(int(self.n[winner]), ratio), tied

    def _validation(self, configuration: int) -> dict[str, Any]:
        row = int(self.scores.rows[configuration])
        found = {
            path.split(".")[1]: self.trials[path][row].as_py()
            for path in VALIDATION
            if path in self.trials.column_names
        }
        return {name: value for name, value in found.items() if value is not None}

    def _paired(self, winner: int) -> Flags:
        """Whether a configuration has the pairs (replicate, fold) of the winner."""
        paired: Flags = (self.scores.planned == self.scores.planned[winner]).all(axis=1)
        return paired

    def summary(self, by: str, top: int | None) -> FamilySummary:
        """Return what is shown of the family: leaderboards grouped by the axis `by`, if any, of `top` rows each."""
        grouping = next((varied for varied in self.axes if varied.path == by), None)
        return FamilySummary(
            name=self.scores.name,
            axes=tuple(varied.path for varied in self.axes),
            configurations=len(self.means),
            complete=len(self.order),
            by=grouping.path if grouping else "",
            boards=tuple(self._boards(grouping, top)),
            winner=self._leader(0) if len(self.order) else None,
            tied=int(self.tied.sum()) - 1 if len(self.order) else 0,
            cheapest=self._cheapest(),
            tie_factor=self.tie_factor,
            marginals=tuple(self._marginals(by)),
            incomplete=tuple(self._incomplete(top)),
            begun=len(self._begun()),
            untouched=len(self.means) - len(self.order) - len(self._begun()),
        )

    def _boards(self, grouping: Axis | None, top: int | None) -> Iterator[Board]:
        if grouping is None:
            yield self._board(None, np.arange(len(self.order)), top)
            return
        codes = grouping.codes[self.order]
        for code, value in enumerate(grouping.values):
            yield self._board(value, np.flatnonzero(codes == code), top)
        if (codes < 0).any():
            yield self._board(None, np.flatnonzero(codes < 0), top)

    def _board(self, value: Any, ranks: Integers, top: int | None) -> Board:
        leaders = tuple(self._leader(int(rank)) for rank in ranks[:top])
        return Board(value=value, leaders=leaders, complete=len(ranks))

    def _leader(self, rank: int) -> Leader:
        index, winner = int(self.order[rank]), int(self.order[0])
        parameters = self.scores.parameters
        known = parameters[index] > 0 and parameters[winner] > 0
        return Leader(
            rank=rank + 1,
            configuration=self.scores.keys[index].as_py(),
            hyperparameters=self._hyperparameters(index),
            mean=float(self.means[index]),
            std=float(self.stds[index]),
            n=int(self.n[index]),
            best_epoch=float(self.scores.best_epochs[index]),
            seconds=float(self.scores.seconds[index]),
            parameters=int(parameters[index]) if parameters[index] >= 0 else None,
            winner=rank == 0,
            tied=bool(self.tied[index]),
            cost=float(parameters[index] / parameters[winner]) if known else math.nan,
        )

    def _hyperparameters(self, index: int) -> dict[str, Any]:
        codes = {varied.path: (varied.values, int(varied.codes[index])) for varied in self.axes}
        return {path: values[code] if code >= 0 else None for path, (values, code) in codes.items()}

    def _cheapest(self) -> Leader | None:
        if not len(self.order):
            return None
        index = selection.cheapest(self.tied, self.order, self.scores.parameters)
        return self._leader(int(np.flatnonzero(self.order == index)[0]))

    def _marginals(self, by: str) -> Iterator[Marginal]:
        for varied in sorted(self.axes, key=lambda varied: varied.path != by):
            codes, means = varied.codes[self.order], self.means[self.order]
            groups = [(value, means[codes == code]) for code, value in enumerate(varied.values)]
            effects = tuple(_effect(value, group) for value, group in groups if len(group))
            yield Marginal(path=varied.path, effects=effects)

    def _begun(self) -> Integers:
        """The incomplete configurations of which a trial has begun, most scored first."""
        states = self.scores.states
        begun = np.flatnonzero(~self.scores.complete & (states[:, State.PENDING] < self.n))
        scored = np.isfinite(self.scores.scores[begun]).sum(axis=1)
        means = self.means[begun] if self.smallest else -self.means[begun]
        order: Integers = begun[np.lexsort((means, -scored))]
        return order

    def _incomplete(self, top: int | None) -> Iterator[Incomplete]:
        for index in self._begun()[:top]:
            states = self.scores.states[index]
            yield Incomplete(
                configuration=self.scores.keys[int(index)].as_py(),
                hyperparameters=self._hyperparameters(int(index)),
                mean=float(self.means[index]),
                scored=int(np.isfinite(self.scores.scores[index]).sum()),
                n=int(self.n[index]),
                failed=int(states[State.FAILED]),
                diverged=int(states[State.DIVERGED]),
                running=int(states[State.RUNNING]),
                pending=int(states[State.PENDING]),
            )


def _axes(trials: pa.Table, rows: Integers) -> Iterator[Axis]:
    for path in trials.column_names:
        found = axis(path, trials[path], rows) if "." in path else None
        if found:
            yield found


def _effect(value: Any, means: Floats) -> Effect:
    std = float(means.std(ddof=1)) if len(means) > 1 else math.nan
    return Effect(value=value, mean=float(means.mean()), std=std, n=len(means))
