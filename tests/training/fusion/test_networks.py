"""Whatever computes several networks together computes each as if it were alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from nnscan.models.cnn import cnn
from nnscan.models.mlp import mlp
from nnscan.tasks.classification import Classification
from nnscan.training.fusion import losses
from nnscan.training.fusion.network import StackedNetwork
from nnscan.training.fusion.optimizers import StackedOptimizer
from nnscan.training.fusion.perceptrons import Memory, Perceptrons
from nnscan.training.fusion.stack import Stack
from nnscan.training.fusion.vmapped import Vmapped, refusal
from nnscan.training.optimizers import optimizer
from nnscan.training.parameters import flatten

torch.set_num_threads(1)

ROWS = 3


def perceptron(seed: int = 0, **changes: object) -> nn.Module:
    torch.manual_seed(seed)
    return mlp((1, 8, 8), 10, **{"width": 16, "depth": 2, "dropout": 0.0, "activation": "relu", **changes})  # type: ignore[arg-type]


def convolutions(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    options = {"channels": [4, 6], "kernel_size": 3, "batch_norm": True, "dropout": 0.0, "skip": True}
    return cnn((1, 8, 8), 10, **options, hidden_units=8)  # type: ignore[arg-type]


def frozen() -> nn.Module:
    model = perceptron()
    next(model.parameters()).requires_grad_(False)
    return model


def with_one_activation(seed: int = 0) -> nn.Module:
    """A user's: one module stands in two places."""
    torch.manual_seed(seed)
    activation = nn.ReLU()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), activation, nn.Linear(16, 16), activation, nn.Linear(16, 10))


KINDS: dict[str, tuple[Callable[[nn.Module, Stack], StackedNetwork | None], Callable[[int], nn.Module]]] = {
    "hand-batched": (Perceptrons.of, perceptron),
    "tanh": (Perceptrons.of, lambda seed: perceptron(seed, activation="tanh")),
    "sigmoid": (Perceptrons.of, lambda seed: perceptron(seed, activation="sigmoid", output_activation="sigmoid")),
    "gelu": (Perceptrons.of, lambda seed: perceptron(seed, activation="gelu")),
    "one activation twice": (Perceptrons.of, with_one_activation),
    "linear": (Perceptrons.of, lambda seed: perceptron(seed, depth=0)),
    "vmap": (Vmapped.of, perceptron),
    "vmap, batch norm": (Vmapped.of, convolutions),
}

OPTIMIZERS = {
    "sgd": {"name": "sgd", "momentum": 0.0, "nesterov": False},
    "momentum": {"name": "sgd", "momentum": 0.9, "nesterov": False},
    "nesterov": {"name": "sgd", "momentum": 0.9, "nesterov": True},
    "adam": {"name": "adam", "betas": [0.9, 0.99], "epsilon": 1e-8},
    "adamw": {"name": "adamw", "betas": [0.9, 0.99], "epsilon": 1e-8},
}
"""Of each row the rate and the decay differ, and the momentum of two."""


def settings(name: str, row: int) -> dict[str, object]:
    table = {**OPTIMIZERS[name], "learning_rate": 0.003 * (row + 1), "weight_decay": 0.01 * row}
    return {**table, "momentum": 0.5} if table.get("momentum") and row == 1 else table


def images(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    found = load_digits()
    return torch.tensor(found.images[:, None] / 16, dtype=dtype), torch.tensor(found.target)


class Together:
    """Networks in the rows of a stack, trained as a group trains them."""

    def __init__(self, kind: str, dtype: torch.dtype, name: str = "sgd") -> None:
        of, make = KINDS[kind]
        self.models = [make(row).to(dtype) for row in range(ROWS)]
        self.settings = [settings(name, row) for row in range(ROWS)]
        self.stack = Stack.like(self.models[0], ROWS)
        found = of(self.models[0], self.stack)
        assert found is not None
        self.network, self.moments = found, StackedOptimizer.of(self.settings[0], self.stack)
        for row, model in enumerate(self.models):
            theirs = optimizer(self.settings[row], flatten(model))
            self.stack.admit(model, row)
            self.moments.admit(theirs, row)
            self.network.admit(model, row)
        self.loss = losses.of([Classification()] * ROWS)

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        rows = slice(0, ROWS)
        found = self.loss(rows, self.network.forward(rows, inputs), targets)
        self.network.backward(found.gradients)
        self.moments.steps.add_(1)
        for row, table in enumerate(self.settings):
            self.moments.prepared(slice(row, row + 1), table)(lr=table["learning_rate"])
        return found.means


class Alone:
    """The same networks, each trained by torch alone: a plain loop, and torch's optimisers as users call them."""

    def __init__(self, kind: str, dtype: torch.dtype, name: str = "sgd") -> None:
        self.models = [KINDS[kind][1](row).to(dtype) for row in range(ROWS)]
        self.optimizers = [self._optimizer(row, settings(name, row)) for row in range(ROWS)]

    def _optimizer(self, row: int, table: dict[str, object]) -> torch.optim.Optimizer:
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[str(table["name"])]
        names = {"learning_rate": "lr", "epsilon": "eps", "name": ""}
        options = {names.get(key, key): value for key, value in table.items() if names.get(key, key)}
        return kind(self.models[row].parameters(), **options)  # type: ignore[arg-type, no-any-return]

    def step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        found = []
        for model, own, x, y in zip(self.models, self.optimizers, inputs, targets, strict=True):
            own.zero_grad()
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            own.step()
            found.append(loss.detach())
        return torch.stack(found)


def losses_of(one: Together | Alone, steps: int, dtype: torch.dtype) -> Tensor:
    """The losses of so many steps, each row with its own batches of 32."""
    pixels, labels = images(dtype)
    draws = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(labels), (steps, ROWS, 32), generator=draws)
    return torch.stack([one.step(pixels[some], labels[some]) for some in chosen])


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, "adam") for kind in KINDS] + [("hand-batched", name) for name in OPTIMIZERS if name != "adam"],
)
def test_200_steps_in_float64_are_those_of_each_alone(kind: str, name: str) -> None:
    found, expected = (losses_of(one(kind, torch.float64, name), 200, torch.float64) for one in (Together, Alone))
    assert (found - expected).abs().max() <= 1e-6
    assert expected[-1].max() < expected[0].max()  # it learns: the comparison is of something


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_in_float32_is_that_of_each_alone(kind: str) -> None:
    together, alone = Together(kind, torch.float32, "adam"), Alone(kind, torch.float32, "adam")
    found, expected = (losses_of(one, 1, torch.float32) for one in (together, alone))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    for one, other in zip(together.models, alone.models, strict=True):
        torch.testing.assert_close(dict(one.named_parameters()), dict(other.named_parameters()), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_that_diverges_leaves_its_neighbours_as_they_are(kind: str) -> None:
    together, undisturbed = Together(kind, torch.float64), Together(kind, torch.float64)
    with torch.no_grad():
        together.stack.values[1].fill_(torch.nan)
    found, expected = (losses_of(one, 20, torch.float64) for one in (together, undisturbed))
    assert found[:, 1].isnan().all()
    assert torch.equal(found[:, [0, 2]], expected[:, [0, 2]])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_take_no_part_stay_as_they_are(kind: str) -> None:
    together = Together(kind, torch.float64)
    pixels, labels = images(torch.float64)
    before = [value.clone() for value in (together.stack.gradients, *together.stack.buffers.values())]
    rows, inputs = slice(1, 3), torch.stack([pixels[:9], pixels[9:18]])
    found = together.loss(rows, together.network.forward(rows, inputs), labels[:18].view(2, 9))
    together.network.backward(found.gradients)
    after = [together.stack.gradients, *together.stack.buffers.values()]
    assert all(torch.equal(one[0], other[0]) for one, other in zip(before, after, strict=True))
    assert together.stack.gradients[1:].abs().sum(1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_that_of_each_alone_and_changes_nothing(kind: str) -> None:
    together = Together(kind, torch.float64)
    losses_of(together, 3, torch.float64)
    pixels, _ = images(torch.float64)
    before = [value.clone() for value in (together.stack.values, *together.stack.buffers.values())]
    with torch.inference_mode():
        found = together.network.evaluate(slice(0, ROWS), pixels[:50].expand(ROWS, -1, -1, -1, -1))
        expected = torch.stack([model.eval()(pixels[:50]) for model in together.models])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    after = [together.stack.values, *together.stack.buffers.values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_memory_of_all_shapes_is_that_of_the_largest() -> None:
    memory, like = Memory(), torch.empty(0)
    shapes = [(2, 3), (4, 5), (1, 3), (4, 5), (2, 3)]
    found = [memory.of(like, *shape) for shape in shapes]
    assert [tuple(one.shape) for one in found] == shapes
    assert {one.data_ptr() for one in found[1:]} == {memory.piece.data_ptr()}
    assert memory.piece.nbytes == 4 * 5 * 4


def test_an_expanded_batch_is_as_good_as_copies() -> None:
    together = Together("hand-batched", torch.float32)
    pixels, _ = images(torch.float32)
    shared = pixels[:16].expand(ROWS, -1, -1, -1, -1)
    found = torch.as_tensor(together.network.forward(slice(0, ROWS), shared)).clone()
    assert torch.equal(found, torch.as_tensor(together.network.forward(slice(0, ROWS), shared.contiguous())))


def test_masks_of_dropout_are_those_that_each_draws_alone() -> None:
    rates = [0.0, 0.3, 0.9]
    models = [perceptron(row, dropout=rate or 0.5) for row, rate in enumerate(rates)]
    for one in models[0].modules():
        if isinstance(one, nn.Dropout):
            one.p = 0.0
    stack = Stack.like(models[0], ROWS)
    networks = Perceptrons.of(models[0], stack)
    assert networks is not None
    pixels, _ = images(torch.float32)
    inputs = pixels[:48].view(ROWS, 16, 1, 8, 8)
    expected = []
    for row, model in enumerate(models):
        torch.manual_seed(40 + row)
        expected.append(model(inputs[row]))
        stack.admit(model, row)
        networks.admit(model, row)
        stack.generators[row].manual_seed(40 + row)
    found = torch.as_tensor(networks.forward(slice(0, ROWS), inputs))
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [
        convolutions(),
        nn.Sequential(nn.Linear(64, 10)),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Softplus()),
        nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Tanh(), nn.Sigmoid()),
        frozen(),
    ],
    ids=["no chain", "nothing flattened", "an unknown module", "two activations in a row", "a frozen weight"],
)
def test_what_is_no_chain_of_known_layers_has_no_rule_of_its_own(model: nn.Module) -> None:
    assert Perceptrons.of(model, Stack.like(model, 1)) is None


class Looks(nn.Module):
    """Depends on a value: vmap cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.linear(inputs.flatten(1))
        return found if found.sum() > 0 else -found


class Replaces(nn.Module):
    """Keeps a running mean, and not in place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.register_buffer("mean", torch.zeros(10))

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.linear(inputs.flatten(1))
        self.mean = 0.9 * self.mean + 0.1 * found.detach().mean(0)
        return found - self.mean


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (convolutions(), ""),
        (Looks(), "vmap does not take it"),
        (Replaces(), "in the place of its buffer mean"),
        (frozen(), "parameters that are not trained"),
    ],
    ids=["taken", "looks at a value", "replaces a buffer", "frozen"],
)
def test_what_vmap_refuses_is_refused_with_the_reason(model: nn.Module, reason: str) -> None:
    found = refusal(model, images(torch.float32)[0][:4])
    assert found == "" if not reason else reason in found
