"""The task of pairs against formulas written out, and what both readings of a network say."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nnscan.results.metric import task_metrics
from nnscan.tasks import task
from nnscan.tasks.pairs import Pairs

SETTINGS = {"name": "pairs", "head_weight": 2.0, "digit_weight": 0.5, "prediction": "head"}


def outputs(seed: int = 0, count: int = 12, digits: int = 10) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"head": 2, "first": digits, "second": digits}
    return {name: 2 * torch.randn(count, size, generator=generator).double() for name, size in shapes.items()}


def targets(count: int = 12) -> Tensor:
    first, second = torch.arange(count) % 10, (torch.arange(count) * 7 + 2) % 10
    return torch.stack([(first <= second).long(), first, second], 1)


def cross_entropy(logits: list[float], true: int) -> float:
    return math.log(sum(map(math.exp, logits))) - logits[true]


def test_the_loss_is_the_weighed_sum_of_three_cross_entropies() -> None:
    given, wanted = outputs(), targets()
    rows = list(zip(*(given[name].tolist() for name in ("head", "first", "second")), wanted.tolist(), strict=True))
    head = sum(cross_entropy(head, label) for head, _, _, (label, _, _) in rows) / 12
    read = sum(cross_entropy(one, a) + cross_entropy(two, b) for _, one, two, (_, a, b) in rows) / 12
    loss = task.of(SETTINGS, 2).mean_loss(given, wanted)
    assert loss.item() == pytest.approx(2.0 * head + 0.5 * read, rel=1e-12)
    found = Pairs().metrics(given, wanted)
    assert found["head_loss"].item() == pytest.approx(head, rel=1e-12)
    assert found["digit_loss"].item() == pytest.approx(read, rel=1e-12)


def test_targets_behind_the_digits_need_not_be_whole() -> None:
    given, wanted = outputs(), targets()
    mixed = torch.cat([wanted.float(), torch.full((12, 1), 0.5)], 1)
    one = Pairs()
    assert one.mean_loss(given, mixed) == one.mean_loss(given, wanted)
    assert one.metrics(given, mixed) == one.metrics(given, wanted)
    assert torch.equal(one.labels(mixed), one.labels(wanted))


def test_a_weight_of_zero_leaves_a_loss_out() -> None:
    given, wanted = outputs(), targets()
    found = Pairs().metrics(given, wanted)
    assert Pairs(1.0, 0.0).mean_loss(given, wanted).item() == found["head_loss"].item()
    assert Pairs(0.0, 1.0).mean_loss(given, wanted).item() == found["digit_loss"].item()


def test_accuracies_are_counted_by_hand() -> None:
    given, wanted = outputs(3), targets()
    places = {
        name: [max(range(len(row)), key=row.__getitem__) for row in values.tolist()] for name, values in given.items()
    }
    by_hand = list(zip(places["head"], places["first"], places["second"], wanted.tolist(), strict=True))
    found = Pairs().metrics(given, wanted)
    assert found["head_accuracy"].item() == pytest.approx(sum(h == c for h, _, _, (c, _, _) in by_hand) / 12)
    compared = sum((one <= two) == bool(c) for _, one, two, (c, _, _) in by_hand) / 12
    assert found["comparison_accuracy"].item() == pytest.approx(compared)
    read = sum((one == a) + (two == b) for _, one, two, (_, a, b) in by_hand) / 24
    assert found["digit_accuracy"].item() == pytest.approx(read)
    assert tuple(found) == task_metrics(SETTINGS)


def test_the_head_predicts_with_its_softmax() -> None:
    given = outputs()
    assert torch.equal(Pairs().scores(given), given["head"])
    torch.testing.assert_close(Pairs().probabilities(given), given["head"].softmax(1))


@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_the_digits_predict_what_their_comparison_says_and_its_probability_is_the_largest(
    seed: int, scale: float
) -> None:
    read = {name: values.float() * scale for name, values in outputs(seed).items()}
    one = Pairs(prediction="digits")
    expected = read["first"].argmax(1) <= read["second"].argmax(1)
    found = one.probabilities(read)
    assert torch.equal(one.scores(read).argmax(1).bool(), expected)
    assert torch.equal(found.argmax(1).bool(), expected)
    torch.testing.assert_close(found.sum(1), torch.ones(12))
    assert ((found >= 0) & (found <= 1)).all()


def test_the_probability_of_a_comparison_is_that_of_two_independent_readings() -> None:
    """Summed over all pairs of digits; where the most probable digits say the contrary, it is next to one half."""
    read = outputs(5, count=400)
    one = Pairs(prediction="digits")
    found = one.probabilities(read)[:, 1].double()
    first, second = read["first"].softmax(1), read["second"].softmax(1)
    chance = sum(first[:, a] * second[:, b] for a in range(10) for b in range(10) if a <= b)
    agree = (chance > 0.5) == (read["first"].argmax(1) <= read["second"].argmax(1))
    assert 0.7 < agree.double().mean() < 1
    torch.testing.assert_close(found[agree], chance[agree], rtol=0, atol=1e-6)
    assert (found[~agree] - 0.5).abs().max() < 1e-6


def test_the_class_is_the_first_target() -> None:
    assert Pairs().labels(targets()).tolist() == targets()[:, 0].tolist()


def test_bfloat16_outputs_are_summed_in_float32() -> None:
    half = {name: values.bfloat16() for name, values in outputs().items()}
    assert Pairs().mean_loss(half, targets()).dtype == torch.float32
    assert Pairs(prediction="digits").probabilities(half).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.zeros(3, 2), "gives Tensor; the task 'pairs' takes a dict of head, first, second"),
        ({"head": torch.zeros(3, 2)}, "gives a dict of head; the task"),
    ],
    ids=["tensor", "dict"],
)
def test_a_network_without_the_heads_is_told(given: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        Pairs().scores(given)


@pytest.mark.parametrize("wanted", [targets()[:, 0], targets()[:, :2]], ids=["labels", "two"])
def test_data_without_the_digits_are_told(wanted: Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs three targets an example, the class and both digits: \(N, 3\)"):
        Pairs().mean_loss(outputs(), wanted)
