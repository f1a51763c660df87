"""The fused kernels on flat tensors against torch's elementwise optimisers on the plain model."""

from typing import Any

import pytest
import torch
from torch import nn

from nnscan.training.optimizers import optimizer, set_learning_rate
from nnscan.training.parameters import flatten

torch.set_num_threads(1)

STEPS = 30
MADE_BY_HAND: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": (
        {"name": "sgd", "learning_rate": 0.05, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        lambda values: torch.optim.SGD(values, lr=0.05, foreach=False, fused=False),
    ),
    "sgd, momentum, nesterov, weight decay": (
        {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        lambda values: torch.optim.SGD(
            values, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1, foreach=False, fused=False
        ),
    ),
    "adam": (
        {"name": "adam", "learning_rate": 0.01, "betas": [0.8, 0.95], "epsilon": 1e-6, "weight_decay": 0.1},
        lambda values: torch.optim.Adam(
            values, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, foreach=False, fused=False
        ),
    ),
    "adamw": (
        {"name": "adamw", "learning_rate": 0.01, "betas": [0.8, 0.95], "epsilon": 1e-6, "weight_decay": 0.1},
        lambda values: torch.optim.AdamW(
            values, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1, foreach=False, fused=False
        ),
    ),
}


def network(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.Flatten(), nn.Linear(20, 4)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", MADE_BY_HAND)
def test_steps_equal_those_of_torchs_elementwise_optimiser(name: str, dtype: torch.dtype) -> None:
    settings, by_hand = MADE_BY_HAND[name]
    model, plain = network(dtype), network(dtype)
    parameters = flatten(model)
    ours, theirs = optimizer(settings, parameters), by_hand(plain.parameters())
    assert ours.param_groups[0]["fused"]
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        images = torch.randn(8, 3, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
        parameters.zero_gradients()
        model(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()
        ours.step()
        theirs.zero_grad()
        plain(images).square().mean().backward()
        theirs.step()
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=tolerance, atol=tolerance)


def test_zeros_between_parameters_stay_zero() -> None:
    model = network(torch.float32)
    parameters = flatten(model)
    used = sum(value.numel() for value in model.parameters())
    one = optimizer(MADE_BY_HAND["adam"][0], parameters)
    model(torch.randn(2, 3, 4, 4)).sum().backward()
    one.step()
    assert parameters.values[0].numel() > used
    assert int((parameters.values[0] != 0).sum()) == used


def test_one_step_of_sgd_is_its_formula() -> None:
    model = nn.Linear(2, 1, bias=False).double()
    parameters = flatten(model)
    before = model.weight.detach().clone()
    one = optimizer(MADE_BY_HAND["sgd"][0], parameters)
    set_learning_rate(one, 0.25)
    model(torch.tensor([[2.0, -3.0]], dtype=torch.float64)).sum().backward()
    one.step()
    torch.testing.assert_close(model.weight, before - 0.25 * torch.tensor([[2.0, -3.0]], dtype=torch.float64))


def test_parameters_of_two_types_are_stepped_alike() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3).double())
    parameters = flatten(model)
    before = [value.detach().clone() for value in model.parameters()]
    one = optimizer(MADE_BY_HAND["sgd"][0], parameters)
    for value in model.parameters():
        value.grad.fill_(1.0)
    one.step()
    for value, old in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(value, old - 0.05)
