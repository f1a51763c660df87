"""Which examples of a test are shown, and how they look."""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from nnscan.data.normalization import Normalization
from nnscan.models.build import build
from nnscan.models.examples import Examined, calibration_error, choose, examples_table, seen

torch.set_num_threads(1)


def examined(count: int = 200, classes: int = 4, channels: int = 1, size: int = 6) -> Examined:
    generator = torch.Generator().manual_seed(count + classes)
    return Examined(
        torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8, generator=generator),
        torch.randint(0, classes, (count,), generator=generator),
        torch.randn(count, classes, generator=generator).softmax(1),
    )


def of_role(roles: dict[int, list[str]], role: str) -> list[int]:
    return sorted(row for row, names in roles.items() if role in names)


def test_the_worst_are_those_with_the_least_true_probability() -> None:
    test = examined()
    true = [row[label].item() for row, label in zip(test.probabilities, test.labels, strict=True)]
    assert of_role(choose(test, 3), "worst") == sorted(sorted(range(200), key=true.__getitem__)[:24])


def test_some_of_each_class_are_shown_and_some_at_random() -> None:
    test = examined()
    roles = choose(test, 3)
    assert Counter(test.labels[row].item() for row in of_role(roles, "class")) == dict.fromkeys(range(4), 5)
    assert len(of_role(roles, "gallery")) == 24


def test_the_draw_is_the_seed_s() -> None:
    test = examined()
    assert choose(test, 3) == choose(test, 3)
    assert of_role(choose(test, 3), "gallery") != of_role(choose(test, 4), "gallery")
    assert of_role(choose(test, 3), "class") != of_role(choose(test, 4), "class")
    assert of_role(choose(test, 3), "worst") == of_role(choose(test, 4), "worst")


def test_a_better_network_changes_no_draw() -> None:
    test = examined()
    other = Examined(test.images, test.labels, test.probabilities.flip(1))
    for role in ("gallery", "class"):
        assert of_role(choose(test, 3), role) == of_role(choose(other, 3), role)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_whatever_the_test_set_there_are_not_too_many(count: int, classes: int, seed: int) -> None:
    test = Examined(torch.zeros(count), torch.arange(count) % classes, torch.rand(count, classes))
    roles = choose(test, seed)
    assert len(of_role(roles, "worst")) == len(of_role(roles, "gallery")) == min(24, count)
    shown = Counter(test.labels[row].item() for row in of_role(roles, "class"))
    assert sum(shown.values()) <= 60
    assert len(shown) == min(count, classes, 60)
    assert max(shown.values()) <= 5


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), True),
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), True),
        (torch.zeros(2, 2, 4, 4, dtype=torch.uint8), False),
        (torch.zeros(2, 3, 4, 4), False),
        (torch.zeros(2, 3, dtype=torch.uint8), False),
    ],
    ids=["grey", "rgb", "pairs", "floats", "features"],
)
def test_what_can_be_shown(images: Tensor, expected: bool) -> None:
    assert Examined(images, torch.zeros(2), torch.zeros(2, 2)).shows == expected


def pixels(content: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def test_a_network_that_fits_its_inputs_sees_them_fitted() -> None:
    model = build({"name": "torchvision:squeezenet1_1", "weights": "none", "input_size": 32}, (1, 8, 8), 3)
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    inputs = seen(model, Normalization((0.02,), (-1.5,)), images)
    assert inputs.shape == (2, 3, 32, 32)
    whole = images.float() * 0.02 - 1.5
    expected = nn.functional.interpolate(whole.expand(-1, 3, -1, -1), size=(32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(inputs, expected)


class Brightened(nn.Module):
    """Fits its inputs with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.light = nn.Parameter(torch.tensor(2.0))

    def fitted_input(self, images: Tensor) -> Tensor:
        return images * self.light


def test_inputs_may_be_fitted_with_weights() -> None:
    images = torch.tensor([0, 3], dtype=torch.uint8).view(2, 1, 1, 1)
    inputs = seen(Brightened(), Normalization((1.0,), (0.0,)), images)
    assert inputs.numpy().ravel().tolist() == [0.0, 6.0]  # NumPy refuses what has a gradient


def test_the_table_says_what_the_network_said() -> None:
    test = examined(channels=3)
    normalization = Normalization((0.1, 0.2, 0.3), (0.0, -1.0, 1.0))
    rows = examples_table(test, nn.Identity(), normalization, ("a", "b", "c", "d"), 7).to_pylist()
    roles = choose(test, 7)
    assert [row["index"] for row in rows] == sorted(roles)
    for row in rows:
        index = row["index"]
        said = test.probabilities[index]
        assert row["roles"] == roles[index]
        assert row["label"] == "abcd"[test.labels[index]]
        assert row["prediction"] == "abcd"[said.argmax()]
        assert row["probability"] == said.max().item()
        assert row["true_probability"] == said[test.labels[index]].item()
        stored = test.images[index].permute(1, 2, 0).numpy()
        assert np.array_equal(pixels(row["image"]), stored)
        values = stored * np.array([0.1, 0.2, 0.3]) + np.array([0.0, -1.0, 1.0])
        expected = (values - values.min()) / (values.max() - values.min()) * 255
        assert np.abs(pixels(row["input"]) - expected).max() < 0.501


def test_the_calibration_error_is_of_the_predictions() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.25, 0.75], [0.25, 0.75]])
    test = Examined(torch.zeros(3), torch.tensor([0, 0, 1]), probabilities)
    assert calibration_error(test) == pytest.approx((0.1 + abs(1 - 1.5)) / 3)
