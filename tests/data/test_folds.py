"""Folds, hold-outs and test sets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nnscan.data.folds import check_folds, split, split_test
from nnscan.errors import DataError


def parts(labels: Tensor, folds: int, stratified: bool, *, seed: int = 0, replicate: int = 0) -> list[Tensor]:
    validation = {"folds": folds, "stratified": stratified}
    return [split(labels, validation, seed=seed, replicate=replicate, fold=fold)[1] for fold in range(folds)]


@st.composite
def labelled(draw: Any, smallest: int = 1) -> Tensor:
    counts = draw(st.lists(st.integers(smallest, 30), min_size=2, max_size=6))
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))]


@given(labels=labelled(smallest=5), folds=st.integers(2, 5), stratified=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_folds_are_a_partition_of_even_sizes(labels: Tensor, folds: int, stratified: bool, seed: int) -> None:
    validating = parts(labels, folds, stratified, seed=seed)
    assert torch.equal(torch.cat(validating).sort().values, torch.arange(len(labels)))
    sizes = [len(part) for part in validating]
    assert max(sizes) - min(sizes) <= 1


@given(labels=labelled(smallest=5), folds=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_stratified_folds_hold_every_class_within_one(labels: Tensor, folds: int, seed: int) -> None:
    counts = torch.stack([torch.bincount(labels[part], minlength=6) for part in parts(labels, folds, True, seed=seed)])
    assert int((counts.max(0).values - counts.min(0).values).max()) <= 1


@given(labels=labelled(smallest=4), fraction=st.floats(0.05, 0.95), stratified=st.booleans(), seed=st.integers(0, 99))
def test_a_hold_out_takes_its_share(labels: Tensor, fraction: float, stratified: bool, seed: int) -> None:
    validation = {"holdout": fraction, "stratified": stratified}
    if not 0 < round(fraction * len(labels)) < len(labels):
        with pytest.raises(DataError, match="leaves one side empty"):
            split(labels, validation, seed=seed, replicate=0, fold=0)
        return
    training, validating = split(labels, validation, seed=seed, replicate=0, fold=0)
    assert torch.equal(torch.cat([training, validating]).sort().values, torch.arange(len(labels)))
    assert len(validating) == round(fraction * len(labels))
    if stratified:
        expected = torch.bincount(labels) * len(validating) / len(labels)
        found = torch.bincount(labels[validating], minlength=len(expected))
        assert (found - expected).abs().max() < 1


def test_training_and_validation_are_ascending_int64() -> None:
    for part in split(torch.arange(50) % 5, {"folds": 5, "stratified": True}, seed=0, replicate=0, fold=3):
        assert part.dtype == torch.int64
        assert (part.diff() > 0).all()


def test_folds_depend_on_seed_and_replicate_alone() -> None:
    labels = torch.arange(200) % 4
    first = parts(labels, 4, True)
    assert all(torch.equal(a, b) for a, b in zip(first, parts(labels, 4, True), strict=True))
    assert not torch.equal(first[0], parts(labels, 4, True, seed=1)[0])
    assert not torch.equal(first[0], parts(labels, 4, True, replicate=1)[0])


def test_sizes_are_those_of_the_muffin_seed() -> None:
    """4,733 examples in 5 parts: 947, 947, 947, 946, 946, as scikit-learn's KFold gives."""
    assert [len(part) for part in parts(torch.zeros(4733, dtype=torch.int64), 5, False)] == [947, 947, 947, 946, 946]


def test_every_example_validates_equally_often() -> None:
    """Of 400 seeds about 100 put an example in the first of 4 parts (binomial, within five standard deviations)."""
    times = torch.zeros(20)
    labels = torch.arange(20) % 2
    for seed in range(400):
        times[parts(labels, 4, True, seed=seed)[0]] += 1
    assert (times - 100).abs().max() < 5 * (400 * 0.25 * 0.75) ** 0.5


def test_more_folds_than_the_smallest_class_are_refused_with_its_name() -> None:
    labels = torch.tensor([0] * 10 + [1] * 3)
    with pytest.raises(DataError, match=r"folds = 5, but class muffin has 3 training examples.* to 3 or less"):
        check_folds(labels, {"folds": 5, "stratified": True}, ["chihuahua", "muffin"])
    check_folds(labels, {"folds": 5, "stratified": False})


def test_more_folds_than_examples_are_refused() -> None:
    with pytest.raises(DataError, match="there are 3 training examples"):
        check_folds(torch.tensor([0, 1, 0]), {"folds": 4, "stratified": False})


def test_a_test_set_comes_from_the_seed_alone_and_is_stratified() -> None:
    labels = torch.arange(1797) % 10
    training, test = split_test(labels, 0.2, seed=0)
    assert (len(training), len(test)) == (1438, 359)
    assert int(torch.bincount(labels[test]).diff().abs().max()) <= 1
    assert torch.equal(split_test(labels, 0.2, seed=0)[1], test)
    assert not torch.equal(split_test(labels, 0.2, seed=1)[1], test)
