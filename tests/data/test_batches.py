"""Batches gathered into kept buffers."""

from __future__ import annotations

import pytest
import torch

from nnscan.data import augmentation, batches, normalization
from nnscan.data.batches import allocate, epoch_order, resident, take
from nnscan.data.normalization import Normalization


def images(count: int = 10, channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (count, channels, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("channels_last", [False, True])
def test_take_gives_normalised_rows(channels_last: bool) -> None:
    data = images()
    normal = normalization.of("standard", data, torch.arange(6))
    buffers = allocate(data, normal, 4, channels_last=channels_last)
    scale, shift = normal.tensors(4)
    for indices in torch.split(torch.tensor([9, 1, 1, 4, 0, 7, 8, 2, 3, 5, 6]), 4):  # 4, 4 and an uneven 3
        inputs = take(data, indices, buffers)
        assert torch.equal(inputs, data[indices].float() * scale + shift)
        assert inputs.data_ptr() == buffers.values.data_ptr()
        assert inputs.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def test_take_augments_before_it_normalises() -> None:
    data = images()
    normal = Normalization((0.5, 1.0, 2.0), (10.0, 20.0, 30.0))
    draws = augmentation.draw(
        3, {"crop_padding": 3, "horizontal_flip": True, "cutout": 2}, torch.Generator().manual_seed(1), (3, 5, 4)
    )
    indices = torch.tensor([2, 5, 9])
    scale, shift = normal.tensors(4)
    expected = augmentation.apply(data[indices], draws).float() * scale + shift
    assert torch.equal(take(data, indices, allocate(data, normal, 8), draws), expected)


def test_take_serves_features_of_any_shape() -> None:
    features = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    buffers = allocate(features, Normalization((2.0,) * 5, (1.0,) * 5), 4)
    indices = torch.tensor([6, 0, 3])
    assert torch.equal(take(features, indices, buffers), features[indices] * 2 + 1)
    assert not torch.equal(features, features * 2 + 1)  # the data themselves stay as they are


def test_an_epoch_meets_every_example_once_in_an_order_of_its_seed() -> None:
    order = epoch_order(1000, 7)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, epoch_order(1000, 7))
    assert not torch.equal(order, epoch_order(1000, 8))


def test_on_the_cpu_data_stay_where_they_are() -> None:
    data = images()
    assert resident(data, "cpu").data_ptr() == data.data_ptr()


def test_data_that_do_not_fit_stay_in_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = images()
    monkeypatch.setattr(batches.torch.cuda, "mem_get_info", lambda device: (2 * data.nbytes - 2, 10**12))
    assert resident(data, "cuda:0") is data
