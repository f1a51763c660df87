from __future__ import annotations

import pytest
import torch
from torch import nn
from trials import CNN, MLP

from nnscan.models.build import build
from nnscan.training.fusion.stack import Stack
from nnscan.training.parameters import flatten


def network(model: dict[str, object], seed: int) -> nn.Module:
    return build(model, (1, 8, 8), 3, seed=seed)


@pytest.mark.parametrize("model", [MLP, CNN], ids=["mlp", "cnn"])
def test_a_network_in_a_row_computes_and_learns_as_outside(model: dict[str, object]) -> None:
    stack = Stack.like(network(model, 0), 3)
    inside, outside = ([network(model, seed) for seed in range(3)] for _ in range(2))
    for row, one in enumerate(inside):
        stack.admit(one, row)
    images = torch.rand(5, 1, 8, 8)
    for one, other in zip(inside, outside, strict=True):
        other.to(memory_format=torch.channels_last)
        for found in (one, other):
            found(images).sum().backward()
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()))
        torch.testing.assert_close([p.grad for p in one.parameters()], [p.grad for p in other.parameters()])
        torch.testing.assert_close(dict(one.named_buffers()), dict(other.named_buffers()))


def test_a_row_is_what_a_flat_network_is() -> None:
    stack = Stack.like(network(CNN, 0), 2)
    stack.admit(network(CNN, 7), 1)
    assert torch.equal(stack.values[1], flatten(network(CNN, 7)).values[0])
    assert not stack.values[0].any()


def test_what_a_row_holds_moves_with_its_network() -> None:
    stack = Stack.like(network(CNN, 0), 2)
    one = network(CNN, 7)
    stack.admit(one, 0)
    before = {name: value.clone() for name, value in one.state_dict().items()}
    stack.admit(one, 1)
    stack.values[0].fill_(9)
    torch.testing.assert_close(one.state_dict(), before, rtol=0, atol=0)
    with torch.no_grad():
        stack.values[1].zero_()
    assert all(not parameter.any() for parameter in one.parameters())
