"""Which examples train and which validate: k folds, hold-outs, and the test set that is set apart first.

Drawn with torch's CPU generator rather than scikit-learn, whose import alone takes 1.3 s of every worker's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nnscan.errors import DataError
from nnscan.identity import Purpose, seed32

Validation = Mapping[str, Any]
"""The table `validation` of a configuration: `folds` or `holdout`, and `stratified`."""


def split(labels: Tensor, validation: Validation, *, seed: int, replicate: int, fold: int) -> tuple[Tensor, Tensor]:
    """Return the indices that train and those that validate.

    Folds come from `seed` and `replicate` alone, so every configuration meets the same ones. Of one replicate the
    validation parts of all folds are a partition; their sizes differ by one at most, as do, where `stratified`,
    the counts of each class in them.

    Parameters
    ----------
    labels : Tensor of shape (N,), int64
        Classes of the whole training set.
    validation : mapping
        The table of that name, resolved.
    seed, replicate, fold : int
        `training.seed`, and which repeat and part of the trial; `fold` is 0 with a hold-out.

    Returns
    -------
    tuple of two Tensors, int64
        Training and validation indices in [0, N), each ascending.

    Raises
    ------
    DataError
        Where the data are too few for the folds (`check_folds`).
    """
    check_folds(labels, validation)
    order = _order(labels, validation["stratified"], seed32(seed, Purpose.FOLDS, replicate=replicate))
    return _part(order, _validates(len(labels), validation, fold))


def split_test(labels: Tensor, fraction: float, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return the indices of the training and of the test set, stratified, from `seed` alone."""
    if not 0 < _count(len(labels), fraction) < len(labels):
        raise DataError(f"A test set of {fraction} of {len(labels)} examples leaves one side empty. Change data.test.")
    order = _order(labels, True, seed32(seed, Purpose.TEST))
    return _part(order, _spread(len(labels), fraction))


def check_folds(labels: Tensor, validation: Validation, classes: Sequence[str] = ()) -> None:
    """Raise DataError where `validation` asks for more parts than the data, or the smallest class, have examples."""
    if "folds" in validation:
        _check_fold_count(labels, validation["folds"], validation["stratified"], classes)
    elif not 0 < _count(len(labels), validation["holdout"]) < len(labels):
        raise DataError(
            f"validation.holdout = {validation['holdout']} of {len(labels)} training examples leaves one side empty."
            " Give a fraction that leaves examples to both."
        )


def _check_fold_count(labels: Tensor, folds: int, stratified: bool, classes: Sequence[str]) -> None:
    if folds > len(labels):
        raise DataError(
            f"validation.folds = {folds}, but there are {len(labels)} training examples. Ask for fewer folds."
        )
    counts = torch.bincount(labels)
    counts[counts == 0] = len(labels)  # a class without training examples needs no place in the folds
    smallest, rarest = int(counts.min()), int(counts.argmin())
    if stratified and folds > smallest:
        raise DataError(
            f"validation.folds = {folds}, but class {classes[rarest] if classes else rarest} has {smallest} training"
            f" examples, and stratified folds need one each. Set validation.folds to {max(2, smallest)} or less, or"
            " validation.stratified = false."
        )


def _order(labels: Tensor, stratified: bool, seed: int) -> Tensor:
    """Return a random order of all indices; where stratified, class after class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if not stratified:
        return order
    return order[torch.argsort(labels[order], stable=True)]


def _validates(count: int, validation: Validation, fold: int) -> Tensor:
    if "folds" in validation:
        # Dealt out like cards: parts, and the shares of a class (a run of neighbours) in them, differ by one at most.
        validates: Tensor = torch.arange(count) % validation["folds"] == fold
        return validates
    return _spread(count, validation["holdout"])


def _spread(count: int, fraction: float) -> Tensor:
    """Return a mask over `count` places, true at evenly spread ones: a run of neighbours gets its share within one."""
    chosen = _count(count, fraction)
    steps = torch.arange(count + 1) * chosen // count
    return steps[1:] > steps[:-1]


def _count(total: int, fraction: float) -> int:
    return round(total * fraction)


def _part(order: Tensor, apart: Tensor) -> tuple[Tensor, Tensor]:
    return order[~apart].sort().values, order[apart].sort().values
