"""Trials that are trained together: an epoch of one is an epoch of all, and each gets the rows it would have alone.

group = FusedGroup(size, networks)
training = NetworkTraining.open(trial, place, group.join)     # of each trial; then ask each in turn for its next row

Whoever asks first lets all train, the others find their rows. A trial may join or leave between any two epochs: each
has its own epoch, order and schedule, and the steps alone are taken together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

import torch

from nnscan.attempt import NotTogetherError
from nnscan.training.fusion import losses
from nnscan.training.fusion.core import Core, NetworkOf
from nnscan.training.fusion.evaluation import validate
from nnscan.training.fusion.lanes import Lane
from nnscan.training.fusion.member import Member, runs
from nnscan.training.loop import Row
from nnscan.training.state import RandomStates, TrainingState, dropout_seed, seed_generators
from nnscan.training.trial_data import TrialData


@dataclass
class FusedGroup:
    """Trials whose networks have one shape, trained by one process."""

    size: int
    """How many are trained at a time, at most."""
    network_of: NetworkOf
    members: list[Member] = field(default_factory=list)
    """In the order of their rows."""
    core: Core | None = None
    """Built for the first trial that joins."""

    def join(self, state: TrainingState, data: TrialData, goes_on: Callable[[], bool]) -> Joined:
        """Take a trial in that stands between two steps; return what trains it."""
        member = Member(state, data, goes_on, len(self.members))
        self.core = self.core or Core.of(member, self.size, self.network_of)
        self.members.append(member)
        self.core.admit(member, member.row)
        return Joined(self, member)

    def leave(self, member: Member) -> None:
        """Let a trial go: the last one takes its row."""
        last = self.members.pop()
        if last is not member:
            self.members[member.row] = last
            self._built.admit(last, member.row)

    def evaluate_new(self) -> None:
        """Find the first row of every trial that has not begun."""
        core, started = self._built, time.perf_counter()
        new = [member for member in self.members if member.first is None and not member.is_waiting]
        for member, row in validate(core.network, new):
            member.first = {**row, "epoch_seconds": time.perf_counter() - started}

    def train_epoch(self, interrupted: Callable[[], bool]) -> None:
        """Train all that want another epoch for what is left of it; none finds a row where `interrupted` was true."""
        core, started = self._built, time.perf_counter()
        members = [member for member in self.members if member.takes_part]
        if not members[0].state.step:
            seed_generators(dropout_seed(members[0].state))  # for networks that draw from torch's own, or from numpy's
        for member in members:
            member.company = max(member.company, len(members))
            member.start_epoch(core.sums(member.row), core.stack.generators[member.row])
        loss_of = losses.of([member.state.task for member in self.members])
        for lanes, count in _stretches(members):
            prepared = [(Lane.of(core, lane, loss_of), lane[0].state.step) for lane in lanes]
            for done in range(count):
                for lane, step in prepared:
                    lane.step(step + done)
                if interrupted():
                    _count(lanes, done + 1)
                    self._pause(members, time.perf_counter() - started)
                    return
            _count(lanes, count)
        self._finish(members, started)

    def _pause(self, members: Iterable[Member], seconds: float) -> None:
        """Leave the epoch between two steps, so that each trial can be saved."""
        for member in members:
            member.is_paused = True
            member.state.sums.seconds += seconds
            member.state.random = RandomStates.of(self._built.stack.generators[member.row])

    def _finish(self, members: Sequence[Member], started: float) -> None:
        """Evaluate after the epoch's last step: each member finds its row."""
        core, trained = self._built, time.perf_counter() - started
        sums = torch.stack([core.losses, core.hits.to(core.losses.dtype)]).tolist()  # the device is waited for once
        for member, validated in validate(core.network, members):
            member.found = _row(member, sums[0][member.row], sums[1][member.row], validated, trained)
        for member in members:
            assert member.found is not None
            before = member.state.sums.seconds
            member.found["epoch_seconds"] = before + time.perf_counter() - started
            member.state.epoch, member.state.step, member.state.random = member.state.epoch + 1, 0, None

    @property
    def _built(self) -> Core:
        assert self.core is not None  # some trial has joined
        return self.core


@dataclass(frozen=True)
class Joined:
    """What trains a trial of a group, in place of `nnscan.training.loop`."""

    group: FusedGroup
    member: Member

    @property
    def fused(self) -> int:
        """With how many it was trained at most."""
        return self.member.company

    def first_row(self, state: TrainingState, data: TrialData) -> Row:  # noqa: ARG002
        """Return the row of epoch 0."""
        if self.member.first is None:
            with together():
                self.group.evaluate_new()
        self.member.is_waiting = True
        return _handed(self.member.first)

    def train_epoch(self, state: TrainingState, data: TrialData, interrupted: Callable[[], bool]) -> Row | None:  # noqa: ARG002
        """Return the row of the next epoch; None where it was interrupted, as `loop.train_epoch` does.

        Where the trial that asked is interrupted so are all: each hears of it once, and can be saved.
        """
        member = self.member
        member.is_waiting = True
        if member.found is None and not member.is_paused:
            with together():
                self.group.train_epoch(interrupted)
        row, member.found, member.is_paused = member.found, None, False
        return row

    def leave(self) -> None:
        """End: another trial may take the place."""
        self.group.leave(self.member)


@contextmanager
def together() -> Iterator[None]:
    """Turn what is thrown within into NotTogetherError: it is no fault of the trial that happened to ask."""
    try:
        yield
    except Exception as error:
        raise NotTogetherError from error


def _handed(row: Row | None) -> Row:
    assert row is not None
    return row


def _stretches(members: Sequence[Member]) -> Iterator[tuple[list[list[Member]], int]]:
    """Yield the members that train in lanes, and for how many steps: until the length of some batch changes."""
    while training := [member for member in members if member.is_training]:
        yield list(runs(training, lambda member: member.batch)), min(member.equal_steps for member in training)


def _count(lanes: Iterable[Iterable[Member]], steps: int) -> None:
    """Take note of steps that were taken."""
    for member in chain.from_iterable(lanes):
        start, end = member.state.step, member.state.step + steps
        member.state.sums.examples += member.batches[end - 1][1] - member.batches[start][0]
        member.state.step = end


def _row(member: Member, loss: float, hits: float, validated: Row, seconds: float) -> Row:
    """Return the row of the epoch that a trial has just trained, in `seconds` since it was last interrupted."""
    state, sums = member.state, member.state.sums
    return {
        "train_loss": loss / sums.examples,
        "train_accuracy": hits / sums.examples,
        **validated,
        "learning_rate": state.schedule(state.steps - 1),
        "epoch_seconds": 0.0,
        "examples_per_second": sums.examples / (sums.seconds + seconds),
    }
