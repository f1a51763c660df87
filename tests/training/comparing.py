"""Comparison of trainings that have to come out alike: on other ranks, in other arithmetic."""

from __future__ import annotations

from typing import Any

import pytest


def near(found: Any, expected: Any, tolerance: float) -> None:
    """Assert that the rows, or other nested values, are the same but for rounding."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            near(found[name], value, tolerance)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            near(one, other, tolerance)
    else:
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True)


RESULTS = ("losses", "rows", "test", "probabilities")


def agree(found: list[dict[str, Any]], expected: dict[str, Any], tolerance: float) -> None:
    """Assert that all ranks say the same, to the bit, and the same as `expected` but for rounding."""
    assert all(other == found[0] for other in found)
    near({name: found[0][name] for name in RESULTS}, {name: expected[name] for name in RESULTS}, tolerance)
    assert found[0]["names"] == expected["names"]
