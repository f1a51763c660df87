"""Pairs of digits: no digit twice, the label right, another draw in each replicate and always the same one."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnscan import fingerprints, scan
from nnscan.data import dataset
from nnscan.data.dataset import Dataset, load, stamp
from nnscan.data.digit_pairs import CLASSES, draw
from nnscan.data.folds import split
from nnscan.data.sources import IDX_FILES
from nnscan.errors import DataError

TRAIN, TEST = 40, 20


def shaded(count: int) -> torch.Tensor:
    """Images (count, 1, 28, 28) of one grey each, by which a digit can be told."""
    return torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 28, 28)


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">{1 + values.ndim}I", 0x800 + values.ndim, *values.shape) + values.tobytes())


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files like those of MNIST, of 40 and 20 digits; the grey of each is its number, its class that modulo 10."""
    monkeypatch.setattr(dataset, "_kept", type(dataset._kept)())
    folder = tmp_path / "root" / "MNIST" / "raw"
    for name, count in zip(IDX_FILES, (TRAIN, TRAIN, TEST, TEST), strict=True):
        images = shaded(count)[:, 0].numpy()
        write_idx(folder / name, images if "images" in name else (np.arange(count) % 10).astype(np.uint8))
    return tmp_path / "root"


def pairs_of(root: Path, *, pairs: int = 20, test_pairs: int = 10, replicate: int = 0, **more: Any) -> Dataset:
    table = {"name": "mnist_pairs", "pairs": pairs, "test_pairs": test_pairs}
    return load(table, root=root, cache=root.parent / "cache", seed=0, replicate=replicate, **more)


def numbers(inputs: torch.Tensor) -> torch.Tensor:
    """Which digits pairs are of, (N, 2)."""
    assert (inputs == inputs[:, :, :1, :1]).all()
    return inputs[:, :, 0, 0].long()


@settings(max_examples=30)
@given(count=st.integers(1, 100), seed=st.integers(0, 2**32 - 1))
def test_no_digit_comes_twice_and_every_target_is_right(count: int, seed: int) -> None:
    labels = torch.arange(200) * 7 % 10
    inputs, targets = draw((shaded(200), labels), count, torch.Generator().manual_seed(seed), "data.pairs")
    drawn = numbers(inputs)
    assert inputs.shape == (count, 2, 14, 14)
    assert inputs.dtype == torch.float32
    assert len(set(drawn.flatten().tolist())) == 2 * count
    assert targets.dtype == torch.int64
    for (first, second), (label, a, b) in zip(drawn.tolist(), targets.tolist(), strict=True):
        assert (a, b) == (first * 7 % 10, second * 7 % 10)
        assert label == int(a <= b)


def test_images_are_means_of_two_by_two_pixels() -> None:
    images = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    inputs, targets = draw((images, torch.tensor([3, 8])), 1, torch.Generator().manual_seed(0), "data.pairs")
    order = [0, 1] if targets[0, 1] == 3 else [1, 0]
    for channel, number in enumerate(order):
        for row, column in ((0, 0), (3, 11), (13, 13)):
            block = images[number, 0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert inputs[0, channel, row, column].item() == block.double().mean().item()


def test_with_more_pairs_the_first_ones_stay() -> None:
    digits = shaded(200), torch.arange(200) % 10
    few, many = (draw(digits, count, torch.Generator().manual_seed(5), "data.pairs")[0] for count in (10, 100))
    assert torch.equal(few, many[:10])


def test_training_and_test_pairs_come_from_training_and_test_digits(root: Path) -> None:
    found = pairs_of(root)
    assert found.classes == CLASSES
    assert sorted(numbers(found.images).flatten().tolist()) == list(range(TRAIN))
    assert sorted(numbers(found.test_images).flatten().tolist()) == list(range(TEST))
    for targets, labels in ((found.targets, found.labels), (found.test_targets, found.test_labels)):
        assert torch.equal(targets[:, 0], labels)


def test_each_replicate_draws_other_pairs_and_always_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pairs_of(root), pairs_of(root, replicate=1)
    monkeypatch.setattr(dataset, "_kept", type(dataset._kept)())  # as another process
    again = pairs_of(root)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.test_images, again.test_images)
    assert not torch.equal(first.images, second.images)
    assert not torch.equal(first.test_images, second.test_images)
    assert first.fingerprint == second.fingerprint  # of the files: what is drawn of them follows from the key


def test_digits_are_decoded_once_for_mnist_and_all_pairs(root: Path) -> None:
    first = pairs_of(root)
    assert (first.decoded, pairs_of(root, pairs=5, replicate=3).decoded) == (TRAIN + TEST, 0)
    mnist = load({"name": "mnist"}, root=root, cache=root.parent / "cache", seed=0)
    assert (mnist.decoded, mnist.fingerprint) == (0, first.fingerprint)
    assert stamp({"name": "mnist_pairs", "pairs": 3, "test_pairs": 3}, root) == stamp({"name": "mnist"}, root)
    assert pairs_of(root).images is first.images


def test_folds_hold_both_classes_in_the_same_proportions(root: Path) -> None:
    labels = pairs_of(root).labels
    training, validation = split(labels, {"holdout": 0.4, "stratified": True}, seed=0, replicate=0, fold=0)
    assert labels[validation].sum().item() == pytest.approx(labels.sum().item() * 0.4, abs=0.6)
    assert len(training) == 12


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"pairs": 21}, r"data\.pairs = 21 needs 42 digits, .* there are 40\. Accepted: at most 20\."),
        ({"test_pairs": 11}, r"data\.test_pairs = 11 needs 22 digits, .* there are 20\. Accepted: at most 10\."),
    ],
    ids=["pairs", "test_pairs"],
)
def test_too_few_digits_are_told(root: Path, more: dict[str, int], told: str) -> None:
    with pytest.raises(DataError, match=told):
        pairs_of(root, **more)


def test_a_launch_finds_too_few_digits_before_anything_starts(root: Path, tmp_path: Path) -> None:
    text = (
        'data.name = "mnist_pairs"\ndata.pairs = 21\nmodel.name = "pair"\noptimizer.name = "sgd"\ntraining.epochs = 1\n'
    )
    asked = scan.read(text, "few.toml", data_root=root)
    with pytest.raises(DataError, match=r"data\.pairs = 21 needs 42 digits"):
        fingerprints.present(asked, tmp_path / "cache", download=False)


def test_files_that_are_missing_are_told_as_those_of_mnist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The data set mnist is not in .*--download"):
        pairs_of(tmp_path / "nowhere")
