"""What Ray Tune calls: which bundle a worker gets, and what became of it.

Tune copies and pickles these objects, so they hold plain values, stand in a module of their own, and speak through
`EVENTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

from ray import tune
from ray.tune.search import Searcher

from nnscan.bundles import Bundle, Bundles, Dealer

EVENTS: SimpleQueue[dict[str, Any]] = SimpleQueue()
"""What the driver has to tell the launching process."""

STARTS_IN_VAIN = 4
"""Deaths of a bundle's worker before it opened its journal, after which the launch gives up: it cannot start here."""


class Cutter(Searcher):
    """Gives a worker that asks the next bundle."""

    def __init__(self, bundles: Bundles, common: Mapping[str, Any]) -> None:
        super().__init__(metric="done", mode="max")
        self._dealer = Dealer(bundles)
        self._common = dict(common)
        self._running: dict[str, Bundle] = {}

    def suggest(self, trial_id: str) -> dict[str, Any]:
        """Return the configuration of the next Tune trial: a bundle."""
        bundle = self._dealer.deal()
        if bundle is None:
            return cast(dict[str, Any], Searcher.FINISHED)  # a string, though Searcher says dict
        self._running[trial_id] = bundle
        return {**self._common, "bundle": bundle.plain()}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Pass on what became of a bundle."""
        bundle = self._running.pop(trial_id)
        self._dealer.ended(bundle)
        reason = "Its worker died again and again." if error else (result or {}).get("error", "")
        EVENTS.put({"event": "bundle", "bundle": bundle.plain(), "error": reason})

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the journals say what is done."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a launch starts anew from the journals."""


class Deaths(tune.Callback):
    """Notices workers that die before they do anything."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._in_vain: dict[str, int] = {}

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Count a death; give up where a bundle's worker never opens its journal."""
        name = Bundle(**trial.config["bundle"]).name
        if any(next((self._folder / table).glob(f"{name}.*"), None) for table in ("journal", "trials")):
            return
        self._in_vain[name] = self._in_vain.get(name, 0) + 1
        if self._in_vain[name] >= STARTS_IN_VAIN:
            EVENTS.put({"event": "error", "message": "Ray's workers die before they start a trial."})


def folder_name(trial: Any) -> str:
    """Return a short name for the folder that Tune makes a bundle."""
    return Bundle(**trial.config["bundle"]).name
