from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnscan.tasks.classification import Classification
from nnscan.training.evaluate import evaluate
from nnscan.training.fusion.evaluation import of_classifications


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=7),
    smoothings=st.lists(st.floats(0, 0.9), min_size=1, max_size=5),
)
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_each_network_is_told_the_bits_that_it_has_alone(loss: str, sizes: list[int], smoothings: list[float]) -> None:
    draws = torch.Generator().manual_seed(sum(sizes))
    tasks = [Classification(loss, smoothing) for smoothing in smoothings]
    found = [
        (torch.randn(len(tasks), n, 5, generator=draws), torch.randint(4, (n,), generator=draws))  # class 4 has none
        for n in sizes
    ]
    for place, (one, task) in enumerate(zip(of_classifications(found, tasks, 5), tasks, strict=True)):
        expected = evaluate([(outputs[place], targets) for outputs, targets in found], 5, task)
        assert repr(one) == repr(expected)  # NaN where a class has no example
