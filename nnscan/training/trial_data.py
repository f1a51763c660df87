"""What one trial trains, validates and is tested on, where its device reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nnscan.data import batches, normalization
from nnscan.data.augmentation import Augmentation, Draws, draw, is_on
from nnscan.data.batches import Buffers
from nnscan.data.dataset import Dataset
from nnscan.data.folds import split
from nnscan.data.normalization import Normalization
from nnscan.data.packing import InputShape
from nnscan.tasks.classification import first_column
from nnscan.training.group import ALONE, Group
from nnscan.trial import Kind, Trial

Batch = tuple[Tensor, Tensor]
"""Inputs (n, ...), float32 and normalised, and targets (n,) or (n, T), both on the device.

Of a rank that has no share of it: the inputs of one example, for a network that takes no empty batch, and no
targets."""


@dataclass(frozen=True)
class TrialData:
    """The data of one trial. Trials that `shared_by` calls equal can share one."""

    dataset: Dataset
    images: Tensor
    """The training set as stored, on the device where it fits, else mapped from disk."""

    targets: Tensor
    """(N,) int64 labels, or (N, T), beside `images`."""

    training: Tensor
    """Indices of the part that trains, int64, beside `images`."""

    validation: Tensor
    """Indices of the part that validates; none in a retraining."""

    normalization: Normalization
    """Of the part that trains."""

    augmentation: Augmentation
    device: torch.device
    """Where the network computes."""

    @classmethod
    def of(cls, dataset: Dataset, trial: Trial, device: torch.device | str) -> TrialData:
        """Return the data of `trial`: a fold's parts, or all of the training set where it is a retraining."""
        images = batches.resident(dataset.images, device)
        training, validation = _parts(dataset.labels, trial)
        settings = trial.settings["data"]
        return cls(
            dataset=dataset,
            images=images,
            targets=dataset.targets.to(images.device),
            training=training.to(images.device),
            validation=validation.to(images.device),
            normalization=normalization.of(settings["normalization"], images, training, dataset.input_shapes),
            augmentation=settings["augmentation"],
            device=torch.device(device),
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, as stored."""
        return tuple(self.images.shape[1:])

    @property
    def labels(self) -> Tensor:
        """Classes of the training set, (N,) int64, beside `images`."""
        return first_column(self.targets)

    @property
    def network_input(self) -> InputShape:
        """What the network is built for: that, or of several inputs the shape of each."""
        return self.dataset.input_shapes or self.input_shape

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.dataset.classes)

    def buffers(self, batch_size: int, *, channels_last: bool) -> Buffers:
        """Return the memory in which `batch` makes batches of up to `batch_size` examples."""
        return batches.allocate(
            self.images, self.normalization, batch_size, device=self.device, channels_last=channels_last
        )

    def batch(self, indices: Tensor, buffers: Buffers, draws: Draws | None = None) -> Batch:
        """Return the examples `indices` of the training set; the inputs lie in `buffers` until the next call."""
        inputs = batches.take(self.images, indices, buffers, draws)
        return inputs, self.targets.index_select(0, indices).to(self.device)

    def share(self, indices: Tensor, draws: Draws | None, buffers: Buffers, group: Group) -> Batch:
        """Return this rank's share of the batch `indices`, of which `draws` are the augmentations."""
        if group.size == 1:
            return self.batch(indices, buffers, draws)
        part, count = fed(group, len(indices))
        inputs, targets = self.batch(indices[part], buffers, draws.of(part) if draws is not None else None)
        return inputs, targets[:count]

    def draws(self, count: int, generator: torch.Generator) -> Draws | None:
        """Return the augmentations of a batch of `count` examples, on the device; none where they are off."""
        if not is_on(self.augmentation):
            return None
        return draw(count, self.augmentation, generator, self.input_shape).to(self.device)

    def validation_batches(self, buffers: Buffers, group: Group = ALONE) -> Iterator[Batch]:
        """Yield this rank's share of each batch of the part that validates: each example once, in order."""
        for indices in torch.split(self.validation, len(buffers.values)):
            yield self.share(indices, None, buffers, group)

    def test_batches(self, buffers: Buffers, group: Group = ALONE) -> Iterator[Batch]:
        """Yield likewise the test set. For the final evaluation alone."""
        images, targets = self.dataset.test_images.to(self.images.device), self.dataset.test_targets
        for indices in torch.split(torch.arange(len(targets)), len(buffers.values)):
            part, count = fed(group, len(indices))
            inputs = batches.take(images, indices[part].to(images.device), buffers)
            yield inputs, targets[indices[part][:count]].to(self.device)


def fed(group: Group, count: int) -> tuple[slice, int]:
    """Return which of `count` examples this rank feeds its network, and how many of these count: all, or none of one.

    Examples
    --------
    >>> fed(ALONE, 7)
    (slice(0, 7, None), 7)
    """
    part = group.share(count)
    return (part, part.stop - part.start) if part.stop > part.start else (slice(0, 1), 0)


def shared_by(trial: Trial) -> tuple[object, ...]:
    """Return what its data depend on besides data set and device: trials for which this is equal can share them."""
    seed = trial.settings["training"]["seed"]
    return trial.kind, trial.settings["data"], trial.settings["validation"], seed, trial.replicate, trial.fold


def _parts(labels: Tensor, trial: Trial) -> tuple[Tensor, Tensor]:
    if trial.kind is Kind.RETRAINING:
        return torch.arange(len(labels)), torch.empty(0, dtype=torch.int64)
    seed = trial.settings["training"]["seed"]
    return split(labels, trial.settings["validation"], seed=seed, replicate=trial.replicate, fold=trial.fold)
