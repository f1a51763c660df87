from __future__ import annotations

import numpy as np
import pytest
from reported import examples_of, png

from nnscan.report.examples import CLASS, GALLERY, WORST, by_class, examples, pixels

CLASSES = ("a", "b")


def test_the_worst_come_first() -> None:
    worst = examples(examples_of(12, CLASSES), WORST)
    assert len(worst) == 12
    assert [one.true_probability for one in worst] == sorted(one.true_probability for one in worst)


def test_a_gallery_stands_in_the_order_of_the_test_set() -> None:
    found = examples(examples_of(12, CLASSES), GALLERY)
    assert [one.index for one in found] == [0, 20, 40, 60, 80, 100]
    assert [one.right for one in found] == [False, True, True, False, True, True]


def test_examples_of_each_class() -> None:
    groups = by_class(examples(examples_of(5, CLASSES), CLASS), ("b", "a", "none"))
    assert {name: [one.label for one in members] for name, members in groups.items()} == {
        "b": ["b"] * 2,
        "a": ["a"] * 3,
    }
    assert list(groups) == ["b", "a"]


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 3)], ids=["grey", "rgb"])
def test_pixels_are_those_of_the_png(shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(pixels(png(image)), image)
