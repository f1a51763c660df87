"""The winners of a scan: their curves, and what those promise for the retraining."""

from __future__ import annotations

import numpy as np

from nnscan.report.curves import WinnerCurves, band
from nnscan.report.material import Material
from nnscan.results.leaderboard import FamilySummary
from nnscan.results.metric import smallest_wins
from nnscan.results.selection import Floats, RetrainingEpochs, retraining_epochs
from nnscan.results.summary import curves

LOSSES = ("train_loss", "val_loss")


def promised(material: Material, family: FamilySummary) -> RetrainingEpochs | None:
    """Return the best epoch of the winner's mean curve, with mean and spread there; None without a winner or a curve.

    At least epoch 1, as a retraining trains; 0 where nothing was trained.
    """
    metric = material.summary.metric
    found = _curves(material, family, metric)
    least = min(1, _epochs(found))
    try:
        return retraining_epochs(found, smallest=smallest_wins(metric), least=least) if found else None
    except ValueError:  # no epoch has a value in every curve
        return None


def winner_curves(material: Material, family: FamilySummary) -> WinnerCurves | None:
    """Return the losses of a family's winner over its epochs; None where it has no validation loss, or no curve."""
    best = promised(material, family)
    losses = [name for name in LOSSES if name in material.metrics]
    if best is None or family.winner is None or "val_loss" not in losses:
        return None
    if not _epochs(_curves(material, family, "val_loss")):
        return None
    return WinnerCurves(
        family=family.name,
        configuration=family.winner.configuration,
        bands=tuple(band(_curves(material, family, name), name) for name in losses),
        best_epoch=best.epochs,
        metric=material.summary.metric,
        best_value=best.mean,
        n=family.winner.n,
    )


def _epochs(curves: list[Floats]) -> int:
    """Return how many epochs the longest of `curves` has behind epoch 0."""
    return max((len(curve) for curve in curves), default=1) - 1


def _curves(material: Material, family: FamilySummary, metric: str) -> list[Floats]:
    if family.winner is None:
        return []
    trials = material.trials_of(family.winner.configuration)
    found = curves(material.epochs([metric], trials), trials, metric)
    return [curve for curve in found if np.isfinite(curve).any()]
