"""Synchronised batch normalisation on real processes against torch's own on the whole batch, in float64."""

from typing import Any

import on_ranks
import pytest
import torch
from ranks import Ranks
from torch import nn

from nnscan.training.batch_norm import Presence, synchronize
from nnscan.training.group import ALONE

torch.set_num_threads(1)

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cumulative": {"momentum": None},
    "slow": {"momentum": 0.01, "eps": 1e-3},
    "without weights": {"affine": False},
    "without running statistics": {"track_running_stats": False},
}
SHAPES: dict[str, list[int]] = {"BatchNorm1d": [], "BatchNorm2d": [3, 2], "BatchNorm3d": [2, 1, 3]}
SIZES = {2: [[3, 4], [1, 1], [5, 0], [0, 6]], 3: [[2, 1, 0], [1, 0, 1], [0, 0, 4], [7, 1, 2]]}
"""Examples of each rank, step by step."""


def close(found: Any, expected: Any) -> bool:
    """Whether nested lists agree to 1e-12 of the largest number."""
    one, other = (torch.tensor(values, dtype=torch.float64) for values in (found, expected))
    return one.shape == other.shape and bool(((one - other).abs() <= 1e-12 * other.abs().max().clamp(min=1)).all())


def cases() -> list[Any]:
    found = [
        pytest.param(
            {"kind": kind, "shape": shape, "options": options, **more}, id=f"{kind}, {name}{', eval' * len(more)}"
        )
        for kind, shape in SHAPES.items()
        for name, options in OPTIONS.items()
        for more in ({}, {"eval": True})
        if kind == "BatchNorm2d" or (name == "plain" and not more)
    ]
    return [*found, pytest.param({"kind": "BatchNorm1d", "shape": [5], "options": {}}, id="BatchNorm1d of sequences")]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", cases())
def test_it_equals_one_process_with_the_whole_batch(ranks: Ranks, case: dict[str, Any], size: int) -> None:
    case = {**case, "sizes": SIZES[size]}
    whole = on_ranks.normalization(case)
    found = ranks.run(size, "normalize", case=case)
    for step, sizes in enumerate(case["sizes"]):
        inputs, slopes = on_ranks.batch(case, step, sum(sizes))
        inputs.requires_grad_()
        outputs = whole(inputs)
        (outputs * slopes).sum().backward()
        for part, expected in enumerate((outputs, on_ranks.gradient(inputs))):
            together = [row for rank in found for row in rank["steps"][step][part]]
            assert close(together, expected.tolist()), step
    expected_state = on_ranks.state_of(whole)
    for rank in found:
        assert rank["names"] == expected_state["names"]
        for kind in ("gradients", "buffers"):
            assert rank[kind].keys() == expected_state[kind].keys()
            assert all(close(value, expected_state[kind][name]) for name, value in rank[kind].items())
        assert rank["buffers"] == found[0]["buffers"]  # to the bit


@pytest.mark.parametrize("sizes", [[1, 0], [0, 1]], ids=str)
def test_one_value_in_all_has_no_variance_and_every_rank_says_so(ranks: Ranks, sizes: list[int]) -> None:
    case = {"kind": "BatchNorm1d", "shape": [], "options": {}, "sizes": [sizes]}
    for found in ranks.run(2, "normalize", case=case):
        assert found["threw"] == "ValueError"
        assert "Expected more than 1 value per channel" in found["message"]


def test_bfloat16_is_normalised_with_statistics_in_float32(ranks: Ranks) -> None:
    for found in ranks.run(2, "normalize_in_bfloat16"):
        assert found["dtypes"] == ["torch.bfloat16", "torch.bfloat16"]
        assert found["distance"] < 0.02  # of values up to 4, with 8 bits


def test_a_module_stays_the_object_and_the_kind_it_was() -> None:
    module = nn.BatchNorm2d(3)
    model = nn.Sequential(module, nn.ReLU(), nn.Sequential(module, nn.InstanceNorm2d(3)))
    synchronize(model, Presence(ALONE))
    assert model[0] is module
    assert isinstance(module, nn.BatchNorm2d)
    assert type(module).__name__ == "SynchronizedBatchNorm2d"
    assert type(model[2][1]) is nn.InstanceNorm2d


def test_a_wrong_number_of_dimensions_is_refused_as_torch_does() -> None:
    module = nn.BatchNorm2d(3)
    synchronize(module, Presence(ALONE))
    with pytest.raises(ValueError, match="expected 4D input"):
        module(torch.zeros(2, 3))


def test_a_normalisation_with_a_forward_of_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="OwnNormalization is a batch normalisation with a forward of its own"):
        synchronize(on_ranks.own_normalization((1, 8, 8), 3), Presence(ALONE))
