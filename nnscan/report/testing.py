"""What retrained winners did on the test set: scores beside the leaderboard, and their predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnscan.errors import StoreError
from nnscan.report.material import Material, ModelFolder
from nnscan.report.predictions import Predictions, predictions, reliability
from nnscan.results.wording import UNKNOWN, score, spread
from nnscan.trial import Status


@dataclass(frozen=True)
class TestScores:
    """Test results of a configuration, as words; "-" where it was not tested."""

    __test__ = False  # pytest takes any class called Test... for a test

    accuracy: str
    loss: str
    mean_accuracy: float
    """NaN where it was not tested."""


def test_scores(material: Material, configuration: str) -> TestScores:
    """Return the mean test results of a configuration over its completed retrainings, with the spread of several."""
    rows = [one for one in material.summary.retrained if one.configuration == configuration]
    seen = {one.trial: one for one in rows if one.status == Status.COMPLETED.value}  # in each of its families once
    accuracies = [one.test_accuracy for one in seen.values()]
    losses = [one.test_loss for one in seen.values()]
    return TestScores(_mean(accuracies), _mean(losses), float(np.mean(accuracies)) if accuracies else math.nan)


def _mean(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return UNKNOWN
    if len(known) == 1:
        return score(known[0])
    return f"{spread(float(np.mean(known)), float(np.std(known, ddof=1)))} (n = {len(known)})"


def told_by(model: ModelFolder) -> Predictions | None:
    """Return what a model says of the test set; None where it was not tested. StoreError where the file is damaged."""
    if model.predictions is None:
        return None
    try:
        return predictions(model.predictions, model.classes)
    except (ValueError, KeyError) as error:
        path = model.path / "predictions.parquet"
        raise StoreError(f"{path} does not fit its model: {error}. Retrain: nnscan retrain-best") from error


def calibration_error(material: Material, family: str) -> float:
    """Return the expected calibration error of a family's model on the test set; NaN without a tested model."""
    told = next((told_by(model) for model in material.models if model.family == family), None)
    return math.nan if told is None else reliability(told.confidences, told.correct).error
