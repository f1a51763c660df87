from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nnscan.training.fusion import by_row
from nnscan.training.fusion.by_row import Hyperparameters
from nnscan.training.fusion.optimizers import StackedOptimizer
from nnscan.training.fusion.stack import Stack
from nnscan.training.optimizers import optimizer, set_learning_rate
from nnscan.training.parameters import FlatParameters

NETWORKS, PARAMETERS, STEPS = 4, 112, 60
COMMON = {"nesterov": False, "momentum": 0.0, "betas": [0.9, 0.99], "epsilon": 1e-6}
NAMES = {
    "adam": {"name": "adam"},
    "adamw": {"name": "adamw"},
    "sgd": {"name": "sgd"},
    "momentum": {"name": "sgd", "momentum": 0.9},
    "nesterov": {"name": "sgd", "momentum": 0.9, "nesterov": True},
}


def settings(name: str, decay: float) -> list[dict[str, Any]]:
    """Return the tables of networks that differ in learning rate, weight decay and momentum; one decays nothing."""
    own = [{"learning_rate": 0.02 / (row + 1), "weight_decay": decay * row} for row in range(NETWORKS)]
    tables = [{**COMMON, **NAMES[name], **one} for one in own]
    return [{**table, "momentum": table["momentum"] * (1 - 0.1 * row)} for row, table in enumerate(tables)]


def gradients(dtype: torch.dtype) -> Tensor:
    """Return made-up gradients, (steps, networks, parameters), of sizes that differ a thousandfold."""
    generator = torch.Generator().manual_seed(1)
    found = torch.randn(STEPS, NETWORKS, PARAMETERS, generator=generator, dtype=dtype)
    return found * torch.logspace(-3, 0, PARAMETERS, dtype=dtype)


def trained_together(tables: list[dict[str, Any]], rates: list[list[float]], given: Tensor) -> Tensor:
    """Return the parameters after two epochs of half the steps."""
    stack = Stack(torch.ones_like(given[0]), torch.zeros_like(given[0]), {}, {}, {}, [])
    optimizer, half = StackedOptimizer.of(tables[0], stack), STEPS // 2
    for first in (0, half):
        told = Hyperparameters(tables, [rate[first : first + half] for rate in rates], taken=first)
        take = by_row.prepared(optimizer, slice(0, NETWORKS), told)
        for step in range(half):
            stack.gradients.copy_(given[first + step])
            take(step)
    return stack.values


def trained_alone(table: dict[str, Any], rates: list[float], given: Tensor) -> Tensor:
    values = torch.ones_like(given[0])
    own = optimizer(table, FlatParameters((values,)))
    for rate, gradient in zip(rates, given, strict=True):
        values.grad = gradient.clone()
        set_learning_rate(own, rate)
        own.step()
    return values


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("decay", [0.1, 0.0], ids=["decay", "no decay"])
@pytest.mark.parametrize("name", NAMES)
def test_each_network_gets_the_step_of_its_own_optimiser(name: str, decay: float, dtype: torch.dtype) -> None:
    tables, given = settings(name, decay), gradients(dtype)
    rates = [[table["learning_rate"] * (1 - step / STEPS) for step in range(STEPS)] for table in tables]
    together = trained_together(tables, rates, given)
    alone = torch.stack([trained_alone(*own) for own in zip(tables, rates, given.unbind(1), strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-5 if dtype is torch.float32 else 1e-13, atol=0)
    if dtype is torch.float32 and by_row.agrees(NAMES[name]["name"]):
        assert torch.equal(together, alone)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_it_is_found_out_where_other_bits_come_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_row.agrees.cache_clear()
    prepared = by_row.prepared

    def scaled(optimizer: StackedOptimizer, rows: slice, told: Hyperparameters) -> by_row.TakeStep:
        other = [[rate * (1 + 1e-6) for rate in rates] for rates in told.rates]
        return prepared(optimizer, rows, Hyperparameters(told.settings, other, told.taken))

    monkeypatch.setattr(by_row, "prepared", scaled)
    assert not by_row.agrees(name)
    by_row.agrees.cache_clear()
