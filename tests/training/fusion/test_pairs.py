"""The kernel of the pairs networks: it computes what their modules compute, each network as if it were alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from nnscan.data.dataset import load
from nnscan.models.pairs import Siamese, pair, siamese
from nnscan.tasks.outputs import Outputs, changed, filled, tensors
from nnscan.training.fusion.pairs import StackedPairs
from nnscan.training.fusion.stack import Stack
from nnscan.training.parameters import flatten

torch.set_num_threads(1)

BUILD: dict[str, Callable[..., nn.Module]] = {"pair": pair, "siamese": siamese}
SIZES = {"first_channels": 5, "second_channels": 6, "hidden_units": 7}
PLAIN = {"batch_norm": False, "skip": False}
EVERY = [
    (name, {"batch_norm": batch_norm, "skip": skip})
    for name in BUILD
    for batch_norm in (True, False)
    for skip in (True, False)
]
IDS = [f"{name}{' norm' * made['batch_norm']}{' skip' * made['skip']}" for name, made in EVERY]
every = pytest.mark.parametrize(("name", "made"), EVERY, ids=IDS)


class Networks:
    """Networks alone, and the same ones in a stack."""

    def __init__(self, name: str, made: dict[str, Any], count: int = 3, side: int = 14, classes: int = 2) -> None:
        self.alone = [self.build(name, made, side, classes, seed) for seed in range(count)]
        self.stacked = [self.build(name, made, side, classes, seed) for seed in range(count)]
        self.stack = Stack.like(self.stacked[0], count)
        for row, model in enumerate(self.stacked):
            self.stack.admit(model, row)
        for model in self.alone:
            flatten(model)
        kernel = StackedPairs.of(self.stacked[0], self.stack)
        assert kernel is not None
        self.kernel = kernel

    @staticmethod
    def build(name: str, made: dict[str, Any], side: int, classes: int, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = BUILD[name]((2, side, side), classes, **{**SIZES, **made}).double()
        for module in model.modules():  # as after a while of training: nothing stands at 0 or 1
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                for values in (module.weight, module.bias, module.running_mean, module.running_var):
                    values.data.add_(torch.rand_like(values))
        return model

    def step(self, rows: slice, inputs: Tensor, targets: Tensor) -> None:
        """Take the gradients of one step in both ways, and compare outputs, gradients and statistics."""
        gradients = stacked_step(self.kernel, rows, inputs, targets)
        for model, images, wanted, found in zip(self.alone[rows], inputs, targets, gradients, strict=True):
            assert_close(found, plain_step(model, images, wanted))
        self.compare()

    def compare(self, tolerance: float = 1e-10) -> None:
        for one, other in zip(self.alone, self.stacked, strict=True):
            for (name, value), beside in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
                close(beside, value, name, tolerance)
            for (name, value), beside in zip(one.named_parameters(), other.parameters(), strict=True):
                close(beside.grad, value.grad, name, tolerance)


def close(found: Tensor | None, expected: Tensor | None, name: str, tolerance: float) -> None:
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=lambda text: f"{name}: {text}")


def assert_close(found: Outputs, expected: Outputs) -> None:
    for one, other in zip(tensors(found), tensors(expected), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def loss_of(outputs: Outputs, targets: Tensor) -> Tensor:
    """Return a loss in which every output has another part; mean over the examples."""
    losses = [
        weight * functional.cross_entropy(one, targets[:, place] % one.shape[1])
        for place, (weight, one) in enumerate(zip((1.0, 0.3, 0.7), tensors(outputs), strict=False))
    ]
    return torch.stack(losses).sum()


def plain_step(model: nn.Module, inputs: Tensor, targets: Tensor) -> Outputs:
    """Write the gradients of one step; return the outputs."""
    model.train()
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad.zero_()
    outputs = model(inputs)
    loss_of(outputs, targets).backward()
    return changed(outputs, Tensor.detach)


def stacked_step(kernel: StackedPairs, rows: slice, inputs: Tensor, targets: Tensor) -> list[Outputs]:
    """Write the gradients of one step of all networks; return the outputs of each."""
    found = kernel.forward(rows, inputs)
    outputs = changed(found, lambda one: one.detach().clone().requires_grad_())
    each = [changed(outputs, lambda one, row=row: one[row]) for row in range(len(inputs))]
    torch.stack([loss_of(one, wanted) for one, wanted in zip(each, targets, strict=True)]).sum().backward()
    gradients = [one.grad for one in tensors(outputs)]
    assert all(one is not None for one in gradients)
    kernel.backward(filled(outputs, [one for one in gradients if one is not None]))
    return [changed(one, Tensor.detach) for one in each]


def random_batch(networks: int, examples: int, side: int = 14, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(networks, examples, 2, side, side, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, 10, (networks, examples, 3), generator=generator)


def digit_batch(networks: int, examples: int) -> tuple[Tensor, Tensor]:
    """Pairs of real digits 8x8: much of them is background, so that windows of the pooling are ties."""
    bunch = load_digits()
    chosen = torch.arange(networks * examples * 2).view(networks, examples, 2)
    images = torch.from_numpy(bunch.images)[chosen] / 16
    digits = torch.from_numpy(bunch.target)[chosen]
    return images, torch.cat([(digits[..., :1] <= digits[..., 1:]).long(), digits], -1)


@every
def test_a_step_is_that_of_each_module(name: str, made: dict[str, Any]) -> None:
    networks = Networks(name, made)
    networks.step(slice(0, 3), *random_batch(3, 9))
    networks.step(slice(0, 3), *random_batch(3, 4, seed=1))  # a last batch
    networks.step(slice(None), *random_batch(3, 9, seed=2))


@every
def test_networks_may_share_a_batch(name: str, made: dict[str, Any]) -> None:
    networks = Networks(name, made, count=4)
    inputs, targets = random_batch(1, 9)
    for rows in (slice(0, 4), slice(1, 3), slice(2, 3)):
        count = rows.stop - rows.start
        networks.step(rows, inputs.expand(count, *inputs.shape[1:]), targets.expand(count, *targets.shape[1:]))
    found = networks.kernel.evaluate(slice(1, 4), inputs.expand(3, *inputs.shape[1:]))
    for place, model in enumerate(networks.alone[1:]):
        assert_close(changed(found, lambda one, place=place: one[place]), model.eval()(inputs[0]))


@every
def test_a_step_on_real_digits_is_that_of_each_module(name: str, made: dict[str, Any]) -> None:
    inputs, targets = digit_batch(3, 20)
    ties = functional.max_pool2d(inputs.flatten(0, 1), 2) == -functional.max_pool2d(-inputs.flatten(0, 1), 2)
    assert ties.double().mean() > 0.2
    Networks(name, made, side=8).step(slice(0, 3), inputs, targets)


@pytest.mark.parametrize("name", BUILD)
def test_a_step_on_pairs_of_mnist_is_that_of_each_module(name: str, data_root: Path, tmp_path: Path) -> None:
    dataset = load({"name": "mnist_pairs", "pairs": 80, "test_pairs": 2}, root=data_root, cache=tmp_path, seed=0)
    assert dataset.several_targets is not None
    inputs = (dataset.images[:80].double() / 255).view(2, 40, 2, 14, 14)
    networks = Networks(name, {"batch_norm": True, "skip": True}, count=2)
    networks.step(slice(0, 2), inputs, dataset.several_targets[0][:80].view(2, 40, 3))


@pytest.mark.parametrize("side", [4, 5, 6, 9, 15])
@pytest.mark.parametrize("name", BUILD)
def test_images_may_have_any_side(name: str, side: int) -> None:
    networks = Networks(name, {"batch_norm": True, "skip": True}, side=side, classes=3)
    networks.step(slice(0, 3), *random_batch(3, 6, side))


@pytest.mark.parametrize("name", BUILD)
def test_of_equal_pixels_the_first_takes_the_gradient(name: str) -> None:
    networks = Networks(name, PLAIN, count=1, side=6)
    for model in (*networks.alone, *networks.stacked):
        for parameter in model.parameters():
            if parameter.dim() == 4 and parameter.shape[-1] == 3:
                parameter.data.zero_()  # whatever it sees, all pixels are equal
    networks.step(slice(0, 1), *random_batch(1, 8, 6))
    weights = next(one for one in networks.stacked[0].parameters() if one.dim() == 4)
    assert weights.grad is not None and weights.grad.abs().max() > 1e-3


@every
def test_rows_beside_those_meant_stay(name: str, made: dict[str, Any]) -> None:
    networks = Networks(name, made, count=4)
    networks.stack.gradients.fill_(7.0)
    kept = {name: value.clone() for name, value in networks.stack.buffers.items()}
    values = networks.stack.values.clone()
    stacked_step(networks.kernel, slice(1, 3), *random_batch(2, 5))
    for row in (0, 3):
        assert (networks.stack.gradients[row] == 7.0).all()
        assert all(torch.equal(value[row], kept[name][row]) for name, value in networks.stack.buffers.items())
    assert torch.equal(networks.stack.values, values)
    for model in networks.alone[1:3]:
        model.zero_grad(set_to_none=False)
    inputs, targets = random_batch(2, 5)
    for model, images, wanted, other in zip(networks.alone[1:3], inputs, targets, networks.stacked[1:3], strict=True):
        plain_step(model, images, wanted)
        for one, beside in zip(model.parameters(), other.parameters(), strict=True):
            close(beside.grad, one.grad, "gradient", 1e-10)  # what stood there is gone


@every
def test_evaluation_goes_by_the_running_statistics_and_changes_nothing(name: str, made: dict[str, Any]) -> None:
    networks = Networks(name, made)
    inputs, targets = random_batch(3, 9)
    with torch.inference_mode():
        networks.kernel.evaluate(slice(0, 3), inputs)  # its memory serves training too
    networks.step(slice(0, 3), inputs, targets)
    before = [one.clone() for one in (networks.stack.gradients, *networks.stack.buffers.values())]
    for count in (9, 5):
        with torch.inference_mode():
            found = networks.kernel.evaluate(slice(1, 3), inputs[1:, :count])
            for place, model in enumerate(networks.alone[1:]):
                expected = model.eval()(inputs[place + 1, :count])
                assert_close(changed(found, lambda one, place=place: one[place]), expected)
    after = [networks.stack.gradients, *networks.stack.buffers.values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@every
def test_thirty_steps_of_sgd_are_those_of_each_module(name: str, made: dict[str, Any]) -> None:
    networks, rates = Networks(name, made, side=8), torch.tensor([0.01, 0.02, 0.03], dtype=torch.float64)
    inputs, targets = digit_batch(3, 40)
    for step in range(30):
        count = 13 if step % 3 == 2 else 20
        chosen = torch.arange(step, step + count) % 40
        stacked_step(networks.kernel, slice(0, 3), inputs[:, chosen], targets[:, chosen])
        networks.stack.values.sub_(networks.stack.gradients * rates[:, None])
        for model, images, wanted, rate in zip(networks.alone, inputs, targets, rates, strict=True):
            plain_step(model, images[chosen], wanted[chosen])
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.sub_(rate * parameter.grad)
    networks.compare(1e-8)  # training itself makes 2e-9 of a last bit here


@pytest.mark.parametrize("shared", [False, True], ids=["own batches", "one batch"])
@pytest.mark.parametrize("name", BUILD)
def test_a_network_that_is_lost_leaves_its_neighbours_alone(name: str, shared: bool) -> None:
    made = {"batch_norm": True, "skip": True}
    whole, hurt = Networks(name, made), Networks(name, made)
    hurt.stack.values[1] = torch.nan
    inputs, targets = random_batch(3, 6)
    if shared:
        inputs = inputs[:1].expand_as(inputs)
    for networks in (whole, hurt):
        stacked_step(networks.kernel, slice(0, 3), inputs, targets)
    assert hurt.stack.gradients[1].isnan().any()
    for row in (0, 2):
        assert torch.equal(hurt.stack.gradients[row], whole.stack.gradients[row])
        assert all(torch.equal(hurt.stack.buffers[at][row], one[row]) for at, one in whole.stack.buffers.items())


LARGE = {"first_channels": 32, "second_channels": 64, "hidden_units": 128}  # with products by oneDNN


@pytest.mark.parametrize("sizes", [SIZES, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("name", BUILD)
def test_a_step_in_float32_has_its_precision(name: str, sizes: dict[str, int]) -> None:
    torch.manual_seed(1)
    model = BUILD[name]((2, 14, 14), 2, **sizes, batch_norm=True, skip=True)
    exact = BUILD[name]((2, 14, 14), 2, **sizes, batch_norm=True, skip=True).double()
    exact.load_state_dict(model.state_dict())
    flatten(exact)
    stack = Stack.like(model, 1)
    stack.admit(model, 0)
    kernel = StackedPairs.of(model, stack)
    assert kernel is not None
    inputs, targets = random_batch(1, 50)
    (found,) = stacked_step(kernel, slice(0, 1), inputs.float(), targets)
    expected = plain_step(exact, inputs[0].float().double(), targets[0])
    assert loss_of(found, targets[0]).item() == pytest.approx(loss_of(expected, targets[0]).item(), rel=1e-6)
    for one, other in zip(model.parameters(), exact.parameters(), strict=True):
        assert one.grad is not None and other.grad is not None
        assert (one.grad - other.grad).norm() <= 1e-5 * other.grad.norm() + 1e-7


def test_batch_normalisation_of_one_value_is_refused_as_in_torch() -> None:
    networks = Networks("pair", {"batch_norm": True, "skip": False}, count=1)
    with pytest.raises(ValueError, match="more than one value"):
        networks.kernel.forward(slice(0, 1), random_batch(1, 1)[0])


def unknown() -> Iterator[tuple[str, nn.Module]]:
    made = {**SIZES, "batch_norm": True, "skip": False}

    class Own(Siamese):
        pass

    known = siamese((2, 8, 8), 2, **made)
    yield "a class of its own", Own(known.backbone, 7, 2)
    changed_part = siamese((2, 8, 8), 2, **made)
    changed_part.backbone.normalization = nn.LayerNorm(7)
    yield "a part of its own", changed_part
    yield "a convolution", nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(108, 2))
    frozen = siamese((2, 8, 8), 2, **made)
    frozen.head.weight.requires_grad_(False)
    yield "frozen parameters", frozen


@pytest.mark.parametrize("model", [pytest.param(model, id=name) for name, model in unknown()])
def test_other_networks_are_not_taken(model: nn.Module) -> None:
    assert StackedPairs.of(model, Stack.like(model, 2)) is None


def test_memory_is_kept_from_step_to_step_and_of_few_sizes() -> None:
    networks = Networks("siamese", {"batch_norm": True, "skip": True})
    inputs, targets = random_batch(3, 20)
    for _ in range(2):
        stacked_step(networks.kernel, slice(0, 3), inputs, targets)
    first = networks.kernel.forward(slice(0, 3), inputs)
    places = [one.data_ptr() for one in tensors(first)]
    networks.kernel.evaluate(slice(0, 3), inputs[:, :7])
    assert [one.data_ptr() for one in tensors(networks.kernel.forward(slice(0, 3), inputs))] == places
    for count in range(2, 20):
        stacked_step(networks.kernel, slice(0, 3), inputs[:, :count], targets[:, :count])
    assert len(networks.kernel._kept) < 10
