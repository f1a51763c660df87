"""The state of a training: all that a step changes, and what it needs to do so."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nnscan.data.batches import Buffers
from nnscan.identity import Purpose, seed32
from nnscan.models.build import build
from nnscan.models.generators import seed_torch
from nnscan.models.weights import start_from
from nnscan.tasks import task
from nnscan.tasks.task import Task
from nnscan.training import evaluate, step_values
from nnscan.training.batch_norm import Presence, synchronize
from nnscan.training.group import ALONE, Group
from nnscan.training.optimizers import optimizer
from nnscan.training.parameters import FlatParameters, flatten, prefers_channels_last
from nnscan.training.schedules import Schedule, schedule
from nnscan.training.step_values import StepValues
from nnscan.training.trial_data import TrialData
from nnscan.trial import Trial

Weights = dict[str, Any]
"""A copy, on the CPU, of what `nn.Module.state_dict` gives."""


@dataclass(frozen=True)
class RandomStates:
    """States of the generators that models draw from (dropout): torch's, numpy's and Python's."""

    cpu: Tensor
    numpy: dict[str, Any]
    python: tuple[Any, ...]
    cuda: Tensor | None = None

    @classmethod
    def now(cls, device: torch.device) -> RandomStates:
        """Return the states as they are; of CUDA's generators that of `device`."""
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), _numpy_state(), random.getstate(), cuda)

    @classmethod
    def seeded(cls, seed: int, device: torch.device) -> RandomStates:
        """Seed the generators, and return their states."""
        seed_generators(seed)
        return cls.now(device)

    @classmethod
    def of(cls, generator: torch.Generator) -> RandomStates:
        """Return the states as they are, with `generator` in place of torch's own of its device."""
        now, own = cls.now(generator.device), generator.get_state()
        return replace(now, cuda=own) if generator.device.type == "cuda" else replace(now, cpu=own)

    def give(self, generator: torch.Generator) -> None:
        """Let `generator` go on as torch's own of its device would."""
        state = self.cuda if generator.device.type == "cuda" else self.cpu
        if state is not None:
            generator.set_state(state)

    def to_json(self) -> str:
        """Return the states as text, which can travel."""
        return json.dumps(_plain(vars(self)))

    @classmethod
    def from_json(cls, text: str) -> RandomStates:
        """Return what `to_json` told."""
        told = json.loads(text)
        version, state, gauss = told["python"]
        key = torch.tensor(told["numpy"]["state"]["key"])
        return cls(
            cpu=_bytes(told["cpu"]),
            numpy={**told["numpy"], "state": {**told["numpy"]["state"], "key": key}},
            python=(version, tuple(state), gauss),
            cuda=None if told["cuda"] is None else _bytes(told["cuda"]),
        )

    def restore(self, device: torch.device) -> None:
        """Make the generators go on from here."""
        torch.set_rng_state(self.cpu)
        _set_numpy_state(self.numpy)
        random.setstate(self.python)
        if self.cuda is not None and device.type == "cuda":
            torch.cuda.set_rng_state(self.cuda, device)


@dataclass
class EpochSums:
    """Sums over the examples that an epoch has trained on so far; the tensors stay on the device."""

    loss: Tensor
    """Of the examples' losses, each as it was when its batch was trained on; of this rank's."""

    hits: Tensor
    """Examples that were classified rightly then, int64; of this rank's."""

    examples: int = 0
    """Of all ranks."""

    seconds: float = 0.0
    """Spent on training, that is without evaluation."""

    @classmethod
    def zero(cls, device: torch.device) -> EpochSums:
        """Return the sums over nothing."""
        loss = torch.zeros((), dtype=evaluate.sum_type(device), device=device)
        return cls(loss, torch.zeros((), dtype=torch.int64, device=device))


@dataclass
class TrainingState:
    """A trial between two steps. Trained in place by `nnscan.training.loop`."""

    trial: Trial
    task: Task
    model: nn.Module
    network: nn.Module
    """What is trained: `model`, or around it what adds up the gradients of several ranks."""

    group: Group
    presence: Presence
    """Set before `network` or `model` is fed."""

    parameters: FlatParameters
    optimizer: Optimizer
    schedule: Schedule
    buffers: Buffers
    evaluation_buffers: Buffers
    steps_per_epoch: int
    part_size: int
    """Examples of a batch, of all ranks, whose gradient is computed at a time: with `training.accumulation` fewer."""

    sums: EpochSums
    """Of the epoch that runs."""

    step_values: StepValues | None
    """What is recorded of every step, where `training.steps` asks."""

    augmentation: torch.Generator
    """Draws the augmentations of the epoch that runs, on the CPU."""

    epoch: int = 0
    """Whole epochs done."""

    step: int = 0
    """Steps done of the next one; above 0 only where it was interrupted."""

    random: RandomStates | None = None
    """Global generators as they were when the epoch was interrupted."""

    best: Weights | None = None
    """Weights of the best epoch so far, where `training.keep` asks for them."""

    anew: tuple[str, ...] = ()
    """Names of the weights that a warm start did not have: of a head for other classes."""

    @property
    def steps(self) -> int:
        """Steps done in all."""
        return self.epoch * self.steps_per_epoch + self.step


def begin(trial: Trial, data: TrialData, group: Group = ALONE, *, weights: Path | None = None) -> TrainingState:
    """Return the state before the first step: the network initialised, on the device of `data`, alike on every rank.

    Files of weights are looked for in `weights`, and in torch's folder.

    Raises
    ------
    DataError
        Where the weights that it starts from are nowhere here, or do not read.
    ValueError, or whatever a user's model throws
        Where the model cannot be built or does not fit the data.
    """
    settings = trial.settings
    batch_size = settings["training"]["batch_size"]
    part_size = max(1, batch_size // settings["training"].get("accumulation", 1))
    what_for = task.of(settings["task"], data.classes)
    seed = _seed(trial, Purpose.INITIALISATION)
    model = build(
        settings["model"], data.network_input, data.classes, seed=seed, weights=weights, scores=what_for.scores
    )
    anew = start_from(settings["training"].get("warm_start", "none"), model, weights)
    model.to(data.device)
    presence = Presence(group)
    if group.size > 1:
        synchronize(model, presence)
    parameters = flatten(model)
    channels_last = prefers_channels_last(model)
    steps = len(batch_ends(len(data.training), batch_size))
    return TrainingState(
        trial=trial,
        task=what_for,
        model=model,
        network=group.parallel(model),
        group=group,
        presence=presence,
        parameters=parameters,
        optimizer=optimizer(settings["optimizer"], parameters),
        schedule=schedule(settings["optimizer"], epochs=settings["training"]["epochs"], steps_per_epoch=steps),
        # One more than a part: where the last example of an epoch is alone it joins the batch before.
        buffers=data.buffers(part_size + 1, channels_last=channels_last),
        evaluation_buffers=data.buffers(
            evaluate.batch_size(data.input_shape, data.device), channels_last=channels_last
        ),
        steps_per_epoch=steps,
        part_size=part_size,
        sums=EpochSums.zero(data.device),
        step_values=step_values.asked(settings["training"], model, steps, data.device),
        augmentation=torch.Generator(),
        anew=anew,
    )


def batch_ends(examples: int, batch_size: int) -> list[int]:
    """Return where the batches of an epoch, or the parts of a batch, end: every `batch_size` examples, and at the last.

    An example that would be alone joins the batch before it: batch normalisation has no variance of one.

    Examples
    --------
    >>> batch_ends(10, 4), batch_ends(9, 4), batch_ends(1, 4)
    ([4, 8, 10], [4, 9], [1])
    """
    ends = [*range(batch_size, examples, batch_size), examples]
    if len(ends) > 1 and batch_size > 1 and ends[-1] - ends[-2] == 1:
        del ends[-2]
    return ends


def start_epoch(state: TrainingState, device: torch.device) -> None:
    """Zero the sums and seed every generator for the next epoch: its draws depend on nothing that ran before."""
    state.sums = EpochSums.zero(device)
    if state.step_values:
        state.step_values.start_epoch()
    state.augmentation.manual_seed(epoch_seed(state, Purpose.AUGMENTATION))
    seed_generators(dropout_seed(state))


def seed_generators(seed: int) -> None:
    """Seed the generators that models draw from."""
    seed_torch(seed)
    np.random.seed(seed)
    random.seed(seed)


def epoch_seed(state: TrainingState, purpose: Purpose) -> int:
    """Return the seed of one kind of draw in the epoch after those done."""
    return _seed(state.trial, purpose, state.epoch + 1)


def dropout_seed(state: TrainingState) -> int:
    """Return the seed of what a network draws in that epoch; each rank has its own, for its own examples."""
    return _seed(state.trial, Purpose.DROPOUT, state.epoch + 1, state.group.rank)


def copy_weights(model: nn.Module) -> Weights:
    """Return a copy of parameters and buffers on the CPU, each tensor for itself and contiguous."""
    return {name: _copy(value) for name, value in model.state_dict().items()}


def _copy(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _seed(trial: Trial, purpose: Purpose, epoch: int = 0, rank: int = 0) -> int:
    seed = trial.settings["training"]["seed"]
    return seed32(seed, purpose, replicate=trial.replicate, fold=trial.fold, epoch=epoch, rank=rank)


def _plain(value: Any) -> Any:
    """Return `value` with tensors as lists."""
    if isinstance(value, Tensor):
        return value.tolist()
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, Mapping) else value


def _bytes(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)


def _numpy_state() -> dict[str, Any]:
    state: Mapping[str, Any] = np.random.get_state(legacy=False)
    key = torch.from_numpy(state["state"]["key"].astype(np.int64))
    return {**state, "state": {"key": key, "pos": int(state["state"]["pos"])}}


def _set_numpy_state(state: dict[str, Any]) -> None:
    key = state["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**state, "state": {"key": key, "pos": state["state"]["pos"]}})
