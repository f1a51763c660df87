"""A user's own training function: a generator that yields a dict of floats an epoch and knows nothing of nnscan."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from itertools import islice
from typing import Any

from nnscan.allocation import AllocationEndedError
from nnscan.dotted import load_function
from nnscan.identity import Purpose, seed32
from nnscan.training.place import Place
from nnscan.trial import Kind, Trial

Metrics = dict[str, Any]


@dataclass(frozen=True)
class FunctionTraining:
    """A trial that a user's function trains."""

    trial: Trial
    place: Place
    first_epoch: int = 1

    def columns(self) -> Metrics:
        """Return what the code was."""
        return {"code_fingerprint": self.place.code_fingerprint(self.trial.settings)}

    def epochs(self) -> Iterator[Metrics]:
        """Yield what the function yields: at most `trial.epochs` dicts with exactly `training.metrics` as keys.

        Raises
        ------
        ValueError
            Where it yields other names, values that are no numbers, or nothing at all.
        AllocationEndedError
            Where the allocation ends before the last epoch.
        """
        training = self.trial.settings["training"]
        function = load_function(training["function"])
        _use_threads(self.place.launch.threads)
        offered = _offered(function, self.trial, self.place)
        rows = iter(function(**training["arguments"], **offered))
        told = 0
        for epoch in range(1, self.trial.epochs + 1):
            started = time.perf_counter()
            _seed(self.trial, epoch)
            for row in islice(rows, 1):
                told = epoch
                checked = _checked(row, training["metrics"], training["function"])
                yield {**checked, "epoch_seconds": time.perf_counter() - started}
                if self.place.allocation.reason and epoch < self.trial.epochs:
                    raise AllocationEndedError(self.place.allocation.reason)
        if not told:
            raise ValueError(f"{training['function']} yielded nothing: let it yield a dict of floats an epoch.")
        if "epochs" in offered:
            next(rows, None)  # it knows that this was the last: what stands behind its last yield runs, too

    def steps(self, epoch: int) -> dict[str, list[float]]:  # noqa: ARG002
        """Return nothing: a function has its steps for itself."""
        return {}

    def finish(self) -> Metrics:
        """Add nothing: a function keeps its weights itself."""
        return {}

    def remove_checkpoints(self) -> None:
        """Remove nothing: a function saves what it needs itself."""


def _use_threads(threads: int) -> None:
    # Only where the function has imported torch: doing it for a function without costs 2 s.
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(threads)


def _offered(function: Callable[..., Any], trial: Trial, place: Place) -> Metrics:
    """Return those of nnscan's own arguments that the signature names."""
    retraining = trial.kind is Kind.RETRAINING
    offers = {
        "seed": _initial_seed(trial),
        "fold": None if retraining else trial.fold,
        "folds": trial.settings["validation"].get("folds", 1),
        "replicate": trial.replicate,
        "epochs": trial.epochs,
        "device": place.device,
        "data_root": str(place.data_root),
    }
    named = signature(function).parameters
    return {name: value for name, value in offers.items() if name in named}


def _initial_seed(trial: Trial) -> int:
    seed = trial.settings["training"]["seed"]
    return seed32(seed, Purpose.INITIALISATION, replicate=trial.replicate, fold=trial.fold)


def _seed(trial: Trial, epoch: int) -> None:
    seed = trial.settings["training"]["seed"]
    value = seed32(seed, Purpose.DROPOUT, replicate=trial.replicate, fold=trial.fold, epoch=epoch)
    random.seed(value)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(value)
    if "torch" in sys.modules:
        from nnscan.models.generators import seed_torch

        seed_torch(value)


def _checked(row: Any, names: list[str], function: str) -> Metrics:
    if not isinstance(row, Mapping) or set(row) != set(names):
        found = sorted(row) if isinstance(row, Mapping) else type(row).__name__
        raise ValueError(
            f"{function} yielded {found}; training.metrics says {sorted(names)}. Make the two agree: yield a dict with"
            " exactly these names, or name what it yields in training.metrics."
        )
    return {name: float(value) for name, value in row.items()}
