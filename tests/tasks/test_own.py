"""A task of a user's own: what it leaves out is filled in, what it gives is checked."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from nnscan.errors import ScanError
from nnscan.tasks import task
from nnscan.tasks.own import OwnTask
from nnscan.tasks.task import Task

OUTPUTS = {"head": torch.tensor([[0.0, 2.0], [1.0, 0.0]]), "size": torch.tensor([[0.5], [2.0]])}
TARGETS = torch.tensor([[1.0, 1.5], [0.0, 2.0]])


class Sized:
    """Tells a class and a size."""

    def __init__(self, weight: float = 0.5, classes: int = 0) -> None:
        self.weight, self.classes = weight, classes

    def mean_loss(self, outputs: Any, targets: Tensor) -> Tensor:
        size = (outputs["size"][:, 0] - targets[:, 1]).square().mean()
        return torch.nn.functional.cross_entropy(outputs["head"], targets[:, 0].long()) + self.weight * size

    def scores(self, outputs: Any) -> Tensor:
        return outputs["head"]

    def metrics(self, outputs: Any, targets: Tensor) -> dict[str, Tensor]:
        return {"distance": (outputs["size"][:, 0] - targets[:, 1]).abs().mean()}


class Whole(Sized):
    """Leaves nothing out."""

    def probabilities(self, outputs: Any) -> Tensor:
        return torch.full_like(outputs["head"], 0.5)

    def labels(self, targets: Tensor) -> Tensor:
        return 1 - targets[:, 0].long()


def given(**changes: Callable[..., Any] | None) -> Any:
    """Return a task with some methods replaced or, of None, left out."""
    sized = Sized()
    methods = {name: getattr(sized, name) for name in ("mean_loss", "scores", "metrics")} | changes
    return SimpleNamespace(**{name: method for name, method in methods.items() if method})


def opened(name: str, told: tuple[str, ...] = ("distance",), **arguments: Any) -> Task:
    return task.of({"name": f"{__name__}:{name}", "arguments": arguments, "metrics": list(told)}, 2)


def test_it_gets_its_arguments_and_the_number_of_classes_where_it_names_it() -> None:
    one: Any = opened("Sized", weight=0.25)
    assert (one.given.weight, one.given.classes) == (0.25, 2)


def test_loss_scores_and_metrics_are_its_own() -> None:
    one = opened("Sized", weight=2.0)
    classes = torch.nn.functional.cross_entropy(OUTPUTS["head"], torch.tensor([1, 0]))
    assert one.mean_loss(OUTPUTS, TARGETS).item() == pytest.approx(classes.item() + 2.0 * 0.5)
    assert one.scores(OUTPUTS) is OUTPUTS["head"]
    assert {name: value.item() for name, value in one.metrics(OUTPUTS, TARGETS).items()} == {"distance": 0.5}


def test_what_it_leaves_out_is_the_softmax_of_the_scores_and_the_first_target() -> None:
    one = opened("Sized")
    torch.testing.assert_close(one.probabilities(OUTPUTS), OUTPUTS["head"].softmax(1))
    assert one.labels(TARGETS).tolist() == [1, 0]
    assert one.labels(torch.tensor([3, 4])).tolist() == [3, 4]
    assert opened("Sized", told=()).metrics(OUTPUTS, TARGETS) == {}


def test_what_it_has_is_taken() -> None:
    one = opened("Whole")
    assert (one.probabilities(OUTPUTS) == 0.5).all()
    assert one.labels(TARGETS).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("found", "told"), [(torch.ones(2, 1), r"gives \(2, 1\)"), (0.5, "gives float")], ids=["one of two", "a number"]
)
def test_there_is_a_probability_for_each_score(found: Any, told: str) -> None:
    one = OwnTask("mine:task", given(probabilities=lambda _: found), ())
    with pytest.raises(ValueError, match=rf"mine:task: probabilities\(outputs\) {told}; .* \(2, 2\)"):
        one.probabilities(OUTPUTS)


def test_it_sees_outputs_of_float32_at_least() -> None:
    half = {name: value.bfloat16() for name, value in OUTPUTS.items()}
    one = opened("Sized")
    assert one.mean_loss(half, TARGETS).dtype == torch.float32
    assert one.probabilities(half).dtype == torch.float32
    assert one.metrics(half, TARGETS)["distance"].dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"mean_loss": None}, "returned SimpleNamespace, which has no mean_loss. A task has the methods mean_loss"),
        ({"mean_loss": None, "scores": None}, "no mean_loss and no scores"),
        ({"metrics": None}, "no metrics"),
    ],
    ids=["loss", "both", "metrics"],
)
def test_what_is_no_task_is_told(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        opened("given", **arguments)


WRONG: dict[str, tuple[dict[str, Callable[..., Any]], str]] = {
    "a loss an example": (
        {"mean_loss": lambda outputs, targets: torch.zeros(2)},
        r"mean_loss has the shape \(2,\); it has to be one number",
    ),
    "a score an example": ({"scores": lambda outputs: torch.zeros(2)}, r"scores\(outputs\) gives \(2,\)"),
    "no tensor": ({"scores": lambda outputs: [1, 2]}, r"scores\(outputs\) gives list"),
    "other metrics": (
        {"metrics": lambda outputs, targets: {"error": torch.tensor(0.0)}},
        r"gives \['error'\]; task.metrics says \['distance'\]",
    ),
    "a metric an example": (
        {"metrics": lambda outputs, targets: {"distance": torch.zeros(2)}},
        r"distance has the shape \(2,\)",
    ),
}


@pytest.mark.parametrize(("changes", "told"), WRONG.values(), ids=WRONG)
def test_what_it_gives_wrong_is_told(changes: dict[str, Callable[..., Any]], told: str) -> None:
    one = opened("given", **changes)
    with pytest.raises(ValueError, match=told):
        _ = one.mean_loss(OUTPUTS, TARGETS), one.scores(OUTPUTS), one.metrics(OUTPUTS, TARGETS)


def test_one_that_is_not_there_is_told() -> None:
    with pytest.raises(ScanError, match="cannot be imported"):
        opened("Missing")
