import sys
from typing import Any

import pytest
import torch
from torch import nn

from nnscan.errors import ScanError
from nnscan.models.build import build, count_parameters

torch.set_num_threads(1)

MLP = {"name": "mlp", "width": 8, "depth": 2, "dropout": 0.0, "activation": "relu"}
CNN = {
    "name": "cnn",
    "channels": [4, 6],
    "kernel_size": 3,
    "batch_norm": True,
    "dropout": 0.0,
    "skip": False,
    "hidden_units": 0,
}


def own(width: int, classes: int, input_shape: tuple[int, ...], seed: int) -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(input_shape[-1] ** 2, width), nn.Linear(width, classes))
    model.seed = seed
    return model


def fixed(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width))


def lazy(classes: int) -> nn.Module:
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(classes))


def no_module() -> int:
    return 3


def ours(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": f"{__name__}:{name}", "arguments": arguments}


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("settings", [MLP, CNN, ours("own", width=5), ours("lazy")], ids=lambda one: one["name"])
def test_initial_weights_come_from_the_seed_alone(settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first = build(settings, (1, 8, 8), 3, seed=7)
    torch.rand(11)
    assert same(first, build(settings, (1, 8, 8), 3, seed=7))
    assert not same(first, build(settings, (1, 8, 8), 3, seed=8))


def test_the_generator_of_the_caller_goes_on_as_if_nothing_had_been_built() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build(MLP, (1, 8, 8), 3, seed=7)
    assert torch.equal(torch.rand(3), expected)


def test_a_users_function_gets_its_arguments_and_what_its_signature_names() -> None:
    model = build(ours("own", width=5), (1, 8, 8), 3, seed=7)
    assert [layer.out_features for layer in model if isinstance(layer, nn.Linear)] == [5, 3]
    assert model.seed == 7
    assert build(ours("fixed"), (1, 8, 8), 3)[1].out_features == 3


def test_lazy_layers_are_filled_in_and_can_train() -> None:
    model = build(ours("lazy"), (1, 8, 8), 3)
    model(torch.rand(2, 1, 8, 8)).sum().backward()
    assert all(value.grad is not None for value in model.parameters())


def test_a_built_model_is_ready_to_train() -> None:
    assert build(CNN, (1, 8, 8), 3).training


def test_outputs_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gives \(2, 4\) for two examples of 3 classes"):
        build(ours("fixed", width=4), (1, 8, 8), 3)


def test_a_model_that_cannot_take_the_data_says_so_in_a_note() -> None:
    with pytest.raises(RuntimeError) as caught:
        build(ours("fixed"), (1, 9, 9), 3)
    assert "cannot take examples of shape (1, 9, 9)" in caught.value.__notes__[0]


def test_a_function_that_returns_no_module_is_refused() -> None:
    with pytest.raises(ValueError, match="returned int"):
        build(ours("no_module"), (1, 8, 8), 3)


def test_a_function_that_is_not_there_is_refused() -> None:
    with pytest.raises(ScanError, match="missing"):
        build(ours("missing"), (1, 8, 8), 3)


def test_parameters_are_counted_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert count_parameters(model) == 16 + 8


def test_a_model_of_nnscans_own_imports_no_torchvision() -> None:
    import subprocess

    code = "import sys, nnscan.models.build, nnscan.training.loop; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def two_heads(classes: int) -> nn.Module:
    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, classes)

        def forward(self, images: torch.Tensor) -> Any:
            found = self.head(images.flatten(1))
            return found, found[:1] if classes == 4 else found

    return Heads()


def first(outputs: Any) -> torch.Tensor:
    return outputs[0]  # type: ignore[no-any-return]


def test_a_network_may_give_what_its_task_takes() -> None:
    assert len(build(ours("two_heads"), (1, 8, 8), 3, scores=first)(torch.zeros(5, 1, 8, 8))) == 2


@pytest.mark.parametrize(
    ("classes", "scores", "told"),
    [
        (3, lambda outputs: outputs[1][:, :2], r"gives \(2, 2\) scores from \(\(2, 3\), \(2, 3\)\) for two examples"),
        (4, first, r"gives \(\(2, 4\), \(1, 4\)\) for two examples; each needs two rows"),
    ],
    ids=["scores", "rows"],
)
def test_scores_of_the_wrong_shape_and_missing_rows_are_told(classes: int, scores: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(ours("two_heads"), (1, 8, 8), classes, scores=scores)


def test_a_task_that_cannot_take_the_outputs_says_so_in_a_note() -> None:
    with pytest.raises(TypeError, match="the task 'classification' takes one tensor") as caught:
        build(ours("two_heads"), (1, 8, 8), 3)
    assert "what the model 'test_build:two_heads' gives: ((2, 3), (2, 3))" in caught.value.__notes__[0].replace(
        __name__, "test_build"
    )


class Sum(nn.Module):
    """Adds up its inputs."""

    def __init__(self, input_shape: Any) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, image: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return (image.sum((1, 2, 3)) + 10 * features.sum(1))[:, None] * self.scale


def test_a_network_of_several_inputs_is_called_with_as_many_tensors() -> None:
    model = build(ours("Sum"), ((1, 2, 2), (3,)), 3)
    assert model.network.input_shape == ((1, 2, 2), (3,))
    assert model(torch.tensor([[1.0] * 4 + [2.0] * 3])).tolist() == [[64.0] * 3]


def test_nnscans_own_network_of_several_inputs_sees_one_row() -> None:
    assert build(MLP, ((1, 2, 2), (3,)), 3)(torch.zeros(2, 7)).shape == (2, 3)
