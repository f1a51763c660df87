"""When a trial stops before its last epoch: a pure function of its rows, so a resumed one stops where it would have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from nnscan.results.metric import smallest_wins
from nnscan.trial import Kind, Trial

Rows = Sequence[Mapping[str, Any]]
"""Metrics of the epochs so far, epoch 0 first."""


def stop(rows: Rows, trial: Trial) -> bool:
    """Return whether the monitored metric has not improved for `early_stopping.patience` epochs.

    A tie with the best so far counts as improvement, NaN and infinity never do, epoch 0 counts where it has the metric.
    So a trial stops exactly `patience` epochs after the (last) best. Patience 0 is off; a retraining never stops early.
    """
    options = trial.settings["training"]["early_stopping"]
    if not options["patience"] or trial.kind is Kind.RETRAINING:
        return False
    monitor = options["monitor"]
    values = [row[monitor] for row in rows if monitor in row]
    if smallest_wins(monitor):
        values = [-value for value in values]
    return bool(len(values) - 1 - _last_best(values) >= options["patience"])


def _last_best(values: Sequence[float]) -> int:
    """Return the index of the largest value, the last on ties; 0 where none is finite."""
    best = max((value for value in values if math.isfinite(value)), default=math.nan)
    return max((index for index, value in enumerate(values) if value == best), default=0)
