from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from nnscan.results.predictions import class_accuracy, confusion, predictions

CLASSES = ("cat", "dog", "owl")
TABLE = pa.table(
    {
        "label": ["cat", "cat", "dog", "dog"],
        "prediction": ["cat", "dog", "dog", "dog"],
        "probabilities": pa.array(
            [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.7, 0.1], [0.0, 1.0, 0.0]], pa.list_(pa.float32())
        ),
    }
)


def test_confusions_are_counted_by_true_and_predicted_class() -> None:
    told = predictions(TABLE, CLASSES)
    counts = confusion(told)
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 2, 0], [0, 0, 0]])
    np.testing.assert_array_equal(class_accuracy(counts), [0.5, 1.0, math.nan])
    assert told.accuracy == 0.75
    np.testing.assert_allclose(told.confidences, [0.8, 0.6, 0.7, 1.0], rtol=1e-6)
    np.testing.assert_allclose(told.true_probabilities, [0.8, 0.3, 0.7, 1.0], rtol=1e-6)


def test_a_class_that_the_model_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="none of cat, cow"):
        predictions(TABLE, ["cat", "cow", "owl"])


def test_other_than_a_probability_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        predictions(TABLE, [*CLASSES, "wolf"])
