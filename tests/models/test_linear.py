from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nnscan.models.linear import Linear
from nnscan.models.products import by_onednn

torch.set_num_threads(1)

LARGE, SMALL = (64, 300, 200), (5, 30, 20)  # examples, inputs, outputs


def made(size: tuple[int, int, int], dtype: torch.dtype = torch.float32) -> tuple[Linear, nn.Linear, Tensor]:
    """Return nnscan's layer and torch's with equal weights, and inputs that ask for a gradient."""
    examples, inputs, outputs = size
    torch.manual_seed(0)
    own, theirs = Linear(inputs, outputs, dtype=dtype), nn.Linear(inputs, outputs, dtype=dtype)
    theirs.load_state_dict(own.state_dict())
    return own, theirs, torch.randn(examples, inputs, dtype=dtype, requires_grad=True)


def gradients(layer: nn.Linear, inputs: Tensor) -> list[Tensor]:
    wanted = [one for one in (inputs, layer.weight, layer.bias) if one.requires_grad]
    return list(torch.autograd.grad(layer(inputs).square().sum(), wanted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("frozen", ["", "inputs", "weight", "bias"])
def test_outputs_and_gradients_are_those_of_torch(size: tuple[int, int, int], dtype: torch.dtype, frozen: str) -> None:
    own, theirs, inputs = made(size, dtype)
    for layer in (own, theirs):
        for one in [inputs] * (frozen == "inputs") + [
            value for name, value in layer.named_parameters() if name == frozen
        ]:
            one.requires_grad_(False)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype is torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(own(inputs), theirs(inputs), **close)
    for found, expected in zip(gradients(own, inputs), gradients(theirs, inputs), strict=True):
        torch.testing.assert_close(found, expected, **close)


def test_small_layers_those_for_torch_func_and_those_in_bfloat16_have_the_bits_of_torch() -> None:
    for size, plain, precision in (
        (SMALL, False, torch.float32),
        (LARGE, True, torch.float32),
        (LARGE, False, torch.bfloat16),
    ):
        own, theirs, inputs = made(size)
        own.plain = plain
        with torch.autocast("cpu", precision, enabled=precision is torch.bfloat16):
            assert torch.equal(own(inputs), theirs(inputs))


def test_more_dimensions_and_no_bias_are_torchs_own() -> None:
    own, theirs, inputs = made(LARGE)
    assert torch.equal(own(inputs[None]), theirs(inputs[None]))
    torch.testing.assert_close(Linear(300, 200, bias=False)(inputs).shape, torch.Size((64, 200)))


@pytest.mark.skipif(not by_onednn(torch.ones(64, 300), torch.ones(300, 200)), reason="needs a torch with oneDNN")
def test_large_layers_are_taken_by_onednn() -> None:
    own, _, inputs = made(LARGE)
    assert "_Linear" in own(inputs).grad_fn.name()
