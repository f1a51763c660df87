from typing import Any

import pytest
import torch

from nnscan.tasks.outputs import Outputs, at_least_float32, changed, filled, joined, tensors

ONE, OTHER = torch.zeros(2, 3), torch.ones(2)
ARRANGED: dict[str, Outputs] = {"tensor": ONE, "tuple": (ONE, OTHER), "dict": {"a": ONE, "b": OTHER}}


@pytest.mark.parametrize("outputs", ARRANGED.values(), ids=ARRANGED)
def test_what_is_taken_apart_can_be_put_together(outputs: Outputs) -> None:
    again = filled(outputs, tensors(outputs))
    assert type(again) is type(outputs)
    assert [one is other for one, other in zip(tensors(again), tensors(outputs), strict=True)]
    assert list(again) == list(outputs) if isinstance(outputs, dict) else True


@pytest.mark.parametrize("outputs", ARRANGED.values(), ids=ARRANGED)
def test_a_change_is_made_to_each_tensor(outputs: Outputs) -> None:
    assert [len(one) for one in tensors(changed(outputs, lambda one: one[:1]))] == [1] * len(tensors(outputs))


@pytest.mark.parametrize("outputs", ARRANGED.values(), ids=ARRANGED)
def test_batches_are_joined_row_by_row(outputs: Outputs) -> None:
    both = joined([outputs, changed(outputs, lambda one: one[:1] + 5)])
    assert type(both) is type(outputs)
    assert [len(one) for one in tensors(both)] == [3] * len(tensors(outputs))
    assert all((one[2] == one[0] + 5).all() for one in tensors(both))


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (None, "gives NoneType; it has to give a tensor"),
        ((), "gives tuple; it"),
        ((ONE, None), "gives tuple of Tensor, NoneType; it"),
        ({"a": {"b": ONE}}, "gives dict of dict; it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_are_no_outputs_is_told(outputs: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        tensors(outputs)


def test_halves_are_widened_and_doubles_stay() -> None:
    assert at_least_float32(ONE.bfloat16()).dtype == at_least_float32(ONE.half()).dtype == torch.float32
    assert at_least_float32(ONE.double()).dtype == torch.float64
