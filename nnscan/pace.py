"""How long a trial of a family takes, as far as is known: what is left of an allocation must take it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import pyarrow.compute as pc

from nnscan.results.folder import ScanFolder
from nnscan.results.store import read_trials
from nnscan.trial import Status, Trial


class Pace:
    """Seconds that trials took: those of this process, and on average those of the scan folder before."""

    def __init__(self, folder: ScanFolder) -> None:
        self._folder = folder
        self._longest: dict[str, float] = {}

    def ended(self, trial: Trial, seconds: float) -> None:
        """Take note of a trial that ended."""
        for family in trial.families:
            self._longest[family] = max(seconds, self._longest.get(family, 0.0))

    def seconds(self, trial: Trial) -> float:
        """Return how long `trial` will take: as the longest of its family here, else as its family did; 0: unknown."""
        here = [self._longest[family] for family in trial.families if family in self._longest]
        return max(here or [self._means.get(family, 0.0) for family in trial.families], default=0.0)

    @cached_property
    def _means(self) -> Mapping[str, float]:
        columns = ["family", "status", "seconds"]
        table = read_trials(self._folder, columns) if self._folder.schema.exists() else None
        if table is None:
            return {}
        completed = table.filter(pc.equal(table["status"], Status.COMPLETED.value))
        means = completed.group_by("family").aggregate([("seconds", "mean")])
        return dict(zip(means["family"].to_pylist(), means["seconds_mean"].to_pylist(), strict=True))
