"""Batches of several trials at once: rows gathered from the one data set that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnscan.data import batches
from nnscan.data.augmentation import is_on
from nnscan.training.fusion.member import Member
from nnscan.training.trial_data import TrialData

Batches = tuple[Tensor, Tensor]
"""Inputs (k, n, ...) of k trials, and targets (k, n) or (k, n, T)."""


@dataclass(frozen=True)
class Gathering:
    """Memory that every batch of a group uses again."""

    raw: Tensor
    """Rows as stored, (rows x batch, ...), where the data lie."""
    values: Tensor
    """What the networks see: likewise, float32, on their device."""

    @classmethod
    def of(cls, member: Member, rows: int) -> Gathering:
        """Return memory for so many trials like `member`."""
        buffers = member.state.buffers
        shape = (rows * len(buffers.values), *buffers.values.shape[1:])
        return cls(buffers.raw.new_empty(shape), buffers.values.new_empty(shape))

    def source(self, members: Sequence[Member]) -> Source:
        """Return where the batches of these trials come from in the epoch that runs."""
        if len({member.shared for member in members}) == 1:
            return Shared(self, members[0], len(members))
        augmented = any(is_on(member.data.augmentation) for member in members)
        if augmented or len({member.data.dataset.fingerprint for member in members}) > 1:
            return Separate(self, members)
        return Stacked.of(self, members)

    def one(self, member: Member, start: int, end: int, place: int = 0) -> tuple[Tensor, Tensor]:
        """Return a batch of one trial, its inputs at their place among those of others."""
        where = slice(place * (end - start), (place + 1) * (end - start))
        buffers = member.state.buffers
        memory = batches.Buffers(self.raw[where], self.values[where], buffers.scale, buffers.shift)
        indices = member.order[start:end]
        draws = member.data.draws(end - start, member.state.augmentation)
        inputs = batches.take(member.data.images, indices, memory, draws)
        return inputs, member.data.targets.index_select(0, indices).to(inputs.device)


@dataclass(frozen=True)
class Shared:
    """Trials with the same batches: one is gathered, and expanded."""

    gathering: Gathering
    member: Member
    count: int

    def take(self, start: int, end: int) -> Batches:
        """Return the examples `start` to `end` of the epoch's order."""
        inputs, targets = self.gathering.one(self.member, start, end)
        return inputs.expand(self.count, *inputs.shape), targets.expand(self.count, *targets.shape)


@dataclass(frozen=True)
class Separate:
    """Trials of different data sets, or whose images are augmented: gathered one trial after another."""

    gathering: Gathering
    members: Sequence[Member]

    def take(self, start: int, end: int) -> Batches:
        """Return the examples `start` to `end` of each trial's order."""
        found = [self.gathering.one(member, start, end, place) for place, member in enumerate(self.members)]
        inputs = self.gathering.values[: len(found) * (end - start)]
        return inputs.view(len(found), end - start, *inputs.shape[1:]), torch.stack([targets for _, targets in found])


@dataclass(frozen=True)
class Stacked:
    """Trials with orders of their own on one data set: gathered at once."""

    gathering: Gathering
    data: TrialData
    order: Tensor
    """(k, n) indices."""
    scale: Tensor
    """(k, 1, C, ...)"""
    shift: Tensor

    @classmethod
    def of(cls, gathering: Gathering, members: Sequence[Member]) -> Stacked:
        """Return that of `members`; those with more examples than others have them in batches that come later."""
        length = min(len(member.order) for member in members)
        order = torch.stack([member.order[:length] for member in members])
        scale, shift = (
            torch.stack([getattr(member.state.buffers, name) for member in members])[:, None]
            for name in ("scale", "shift")
        )
        return cls(gathering, members[0].data, order, scale, shift)

    def take(self, start: int, end: int) -> Batches:
        """Return the examples `start` to `end` of each trial's order."""
        count, n = len(self.order), end - start
        indices = self.order[:, start:end].flatten()
        raw, values = self.gathering.raw[: count * n], self.gathering.values[: count * n]
        torch.index_select(self.data.images, 0, indices, out=raw)
        inputs = values.copy_(raw).view(count, n, *values.shape[1:]).mul_(self.scale).add_(self.shift)
        targets = self.data.targets.index_select(0, indices).to(values.device)
        return inputs, targets.view(count, n, *targets.shape[1:])


Source = Shared | Separate | Stacked
