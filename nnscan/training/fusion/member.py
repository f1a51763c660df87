"""A trial that is trained in a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby, pairwise

import torch
from torch import Tensor

from nnscan.data.augmentation import is_on
from nnscan.data.batches import epoch_order
from nnscan.identity import Purpose, canonical_json
from nnscan.training.loop import Row
from nnscan.training.state import EpochSums, TrainingState, batch_ends, dropout_seed, epoch_seed
from nnscan.training.trial_data import TrialData


@dataclass(eq=False)
class Member:
    """A trial of a group, between two steps."""

    state: TrainingState
    data: TrialData
    goes_on: Callable[[], bool]
    """Whether it wants another epoch after the rows that it has."""
    row: int
    """Its place in the stack."""
    is_waiting: bool = False
    """Whether it has asked for a row: one that resumes tells those of its checkpoint before."""
    is_paused: bool = False
    """Whether its epoch was interrupted and it has not heard of it."""
    first: Row | None = None
    """The row of epoch 0, once it was found."""
    found: Row | None = None
    """That of the last epoch, until it is asked for."""
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    """Indices of the examples of the epoch that runs."""
    batches: Sequence[tuple[int, int]] = ()
    """Where in `order` each batch begins and ends."""
    rates: Sequence[float] = ()
    """The learning rate of each step of the epoch."""
    company: int = 1
    """With how many it was trained at most."""
    optimizer_key: str = ""
    """What else its optimiser is told."""

    def __post_init__(self) -> None:
        """Find out what its optimiser is told besides the rate, which every step has anew."""
        settings = self.state.trial.settings["optimizer"]
        self.optimizer_key = canonical_json({**settings, "learning_rate": 0, "schedule": 0})

    @property
    def takes_part(self) -> bool:
        """Whether it is trained in the epoch that some member asks for."""
        return self.is_waiting and self.found is None and self.goes_on()

    @property
    def is_training(self) -> bool:
        """Whether the epoch has a step left for it."""
        return self.state.step < len(self.batches)

    def start_epoch(self, sums: EpochSums, generator: torch.Generator) -> None:
        """Draw the order of the next epoch, or that of the one that was interrupted, and seed what its network draws.

        `sums` are those that the group adds to.
        """
        state, batch_size = self.state, self.state.trial.settings["training"]["batch_size"]
        seed = epoch_seed(state, Purpose.ORDER)
        self.order = self.data.training[epoch_order(len(self.data.training), seed).to(self.data.training.device)]
        self.batches = _batches(len(self.order), batch_size)
        begun = state.epoch * state.steps_per_epoch
        self.rates = [state.schedule(begun + step) for step in range(len(self.batches))]
        if state.step == 0:
            state.augmentation.manual_seed(epoch_seed(state, Purpose.AUGMENTATION))
            generator.manual_seed(dropout_seed(state))
        elif state.random is not None:
            state.random.give(generator)
        self._count_in(sums)

    def _count_in(self, sums: EpochSums) -> None:
        """Go on counting in `sums`, of an epoch that begins from nothing."""
        if self.state.step:
            before = self.state.sums
            sums.loss.copy_(before.loss)
            sums.hits.copy_(before.hits)
            sums.examples, sums.seconds = before.examples, before.seconds
        else:
            sums.loss.zero_()
            sums.hits.zero_()
        self.state.sums = sums

    @property
    def shared(self) -> object:
        """Equal for members that train on the same batches: they take the same part in the same order."""
        if is_on(self.data.augmentation):
            return id(self)
        trial = self.state.trial
        return id(self.data), trial.settings["training"]["seed"], self.state.epoch

    @property
    def batch(self) -> tuple[int, int]:
        """Where the next batch begins and ends in `order`."""
        return self.batches[self.state.step]

    @property
    def equal_steps(self) -> int:
        """How many of the next batches have the length of the next one, at least 1."""
        last, count = len(self.batches) - 1, len(self.batches) - self.state.step
        return count if count == 1 or self._length(last) == self._length(self.state.step) else count - 1

    def _length(self, step: int) -> int:
        start, end = self.batches[step]
        return end - start

    @property
    def optimizer_steps(self) -> object:
        """Equal for members whose optimisers take the same steps in this epoch."""
        return self.optimizer_key, self.state.steps, self.rates

    @property
    def optimizer_kind(self) -> object:
        """Equal for members whose steps differ in rates, momentum and weight decay at most.

        Whether there is momentum, and of what kind, is the same in all of a group (`fusing.shape_of`).
        """
        settings = self.state.trial.settings["optimizer"]
        return settings.get("betas"), settings.get("epsilon"), self.state.steps


@lru_cache(maxsize=8)  # trials that are trained together have the same ones
def _batches(examples: int, batch_size: int) -> Sequence[tuple[int, int]]:
    """Return where each batch of an epoch begins and ends."""
    return tuple(pairwise([0, *batch_ends(examples, batch_size)]))


def rows_of(members: Sequence[Member]) -> slice:
    """Return the rows of members that follow each other."""
    return slice(members[0].row, members[-1].row + 1)


def runs(members: Sequence[Member], key: Callable[[Member], object]) -> Iterator[list[Member]]:
    """Yield members whose rows follow each other and whose keys are equal."""
    numbered = enumerate(members)  # rows that follow each other keep their distance to the count
    for _, run in groupby(numbered, lambda pair: (pair[1].row - pair[0], key(pair[1]))):
        yield [member for _, member in run]
