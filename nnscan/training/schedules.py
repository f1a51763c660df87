"""Learning rates as closed formulas of the step: nothing to step, nothing to save."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

Schedule = Callable[[int], float]
"""The learning rate of a step, counted from 0 over all epochs."""


def schedule(optimizer: Mapping[str, Any], *, epochs: int, steps_per_epoch: int) -> Schedule:
    """Return the learning rate of each step as the tables `optimizer` and `optimizer.schedule` say.

    Beyond `epochs` it stays what it was in the last of their steps.

    Parameters
    ----------
    optimizer : mapping
        The table `optimizer`, resolved; `learning_rate` is the first value, of one_cycle the largest.
    epochs : int
        Length of the schedule: `training.epochs`, in a retraining too, however long that is; 0 counts as 1.
    steps_per_epoch : int
        Of the training at hand.
    """
    options = optimizer["schedule"]
    if options["name"] == "constant":
        return lambda step: float(optimizer["learning_rate"])  # noqa: ARG005
    factor = partial(_FACTORS[options["name"]], options)
    last = max(1, epochs) * steps_per_epoch - 1

    def learning_rate(step: int) -> float:
        return optimizer["learning_rate"] * factor(min(step, last), last, steps_per_epoch)  # type: ignore[no-any-return]

    return learning_rate


def _step(options: Mapping[str, Any], step: int, last: int, steps_per_epoch: int) -> float:  # noqa: ARG001
    """Multiply by `factor` once every `every` epochs."""
    return float(options["factor"] ** (step // steps_per_epoch // options["every"]))


def _cosine(options: Mapping[str, Any], step: int, last: int, steps_per_epoch: int) -> float:
    """Half a cosine over the epochs, from 1 towards `final_fraction`, which the epoch after the last would have.

    Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts.
    """
    epochs = (last + 1) // steps_per_epoch
    return _anneal(1.0, options["final_fraction"], step // steps_per_epoch / epochs)


def _one_cycle(options: Mapping[str, Any], step: int, last: int, steps_per_epoch: int) -> float:  # noqa: ARG001
    """Half a cosine up from `initial_fraction` over `warmup_fraction` of the steps, then one down to `final_fraction`.

    Smith and Topin 2018, "Super-Convergence", with the cosines and the step of the peak as in torch's OneCycleLR.
    """
    peak = max(options["warmup_fraction"] * (last + 1) - 1, 0.0)
    if step < peak:
        return _anneal(options["initial_fraction"], 1.0, step / peak)
    if last <= peak:
        return 1.0
    return _anneal(1.0, options["final_fraction"], (step - peak) / (last - peak))


def _anneal(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


_FACTORS: dict[str, Callable[[Mapping[str, Any], int, int, int], float]] = {
    "step": _step,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
}
