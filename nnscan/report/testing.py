"""What retrained winners did on the test set: scores beside the leaderboard, and their predictions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnscan.errors import StoreError
from nnscan.report.material import Material, ModelFolder
from nnscan.report.predictions import reliability
from nnscan.results.predictions import Predictions, predictions
from nnscan.results.wording import UNKNOWN, score, spread
from nnscan.trial import Status


@dataclass(frozen=True)
class TestScores:
    """Test results of a configuration, as words; "-" where it was not tested."""

    __test__ = False  # pytest takes any class called Test... for a test

    accuracy: str
    often: str
    """How often it was retrained, where that is more than once."""
    loss: str
    mean_accuracy: float
    """NaN where it was not tested."""


def test_scores(material: Material, configuration: str) -> TestScores:
    """Return the test results of a configuration; of several replicates of its retraining mean and spread."""
    rows = [one for one in material.summary.retrained if one.configuration == configuration]
    tested = [one for one in rows if one.status == Status.COMPLETED.value]
    told = min(tested, key=lambda one: math.isnan(one.test_calibration_error), default=None)  # the one that is kept
    if told is None:
        return TestScores(UNKNOWN, "", UNKNOWN, math.nan)
    many = f" (n = {told.replicates})" if told.replicates > 1 else ""
    accuracy = spread(told.test_accuracy, told.test_accuracy_std)
    return TestScores(accuracy, many, score(told.test_loss), told.test_accuracy)


def told_by(model: ModelFolder) -> Predictions | None:
    """Return what a model says of the test set; None where it was not tested. StoreError where the file is damaged."""
    if model.predictions is None or not len(model.predictions):
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
