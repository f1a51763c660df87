"""Which trials of a bundle can be trained together: those whose networks have one shape, and whose steps are alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from nnscan.identity import canonical_json
from nnscan.trial import Kind, Settings, Trial

OFF, AUTO = "off", "auto"
"""What `--fuse` takes beside a number: each trial alone, or together where that is faster."""

Numbered = tuple[Trial, int]
"""A trial and the number of its attempt."""

TOGETHER = ("mlp", "pair", "siamese")
"""The networks that are trained together unasked: those that have rules of their own."""

FEWEST = 4
"""How many of these are trained at a time at least, unless they are faster alone."""

FREE: dict[str, tuple[str, ...]] = {
    "data": ("augmentation", "normalization"),
    "optimizer": ("learning_rate", "momentum", "weight_decay", "betas", "epsilon", "schedule", "nesterov"),
    "task": ("label_smoothing", "head_weight", "digit_weight", "prediction"),
    "training": ("epochs", "seed", "gradient_clip", "early_stopping", "keep", "keep_every"),
    "validation": ("folds", "holdout", "stratified"),
}
"""Options, by table, in which trials that are trained together may differ."""


@dataclass(frozen=True)
class Portion:
    """Trials of a bundle."""

    trials: list[Numbered]
    shape: str
    """What they have in common where they can be trained together, else ""."""


def portions(trials: Iterable[Numbered], fuse: str) -> list[Portion]:
    """Return `trials` in portions of those that can be trained together, and single ones, in the order of their first.

    In a portion those come together that train on the same examples in the same order: a batch is gathered once. One
    that a process died of, or that failed, goes by itself the next time: it would take its company along.
    """
    parts: dict[tuple[str, str], list[Numbered]] = {}
    for trial, number in trials:
        shape = "" if fuse == OFF else shape_of(trial)
        parts.setdefault((shape, "" if shape and number == 1 else trial.key), []).append((trial, number))
    return [Portion(sorted(part, key=_examples), shape) for (shape, _), part in parts.items()]


def company(models: Collection[str], fuse: str) -> int:
    """Return how many trials of these networks a worker is best given at a time: as many as it trains together.

    So far as that is known before any of them is measured.
    """
    if fuse == OFF or not models or "" in models:  # "": a training function of the user's
        return 1
    if fuse != AUTO:
        return int(fuse)
    return FEWEST if set(models) <= set(TOGETHER) else 1


def shape_of(trial: Trial) -> str:
    """Return what has to be equal in trials that are trained together; "" where it is trained alone.

    Alone are: a user's own training, a retraining, several parts to a batch, bfloat16, and what records every step.
    """
    training = trial.settings["training"]
    alone = (
        trial.kind is not Kind.TRIAL
        or "function" in training
        or training["precision"] != "float32"
        or training.get("accumulation", 1) > 1
        or training.get("steps")
    )
    return "" if alone else canonical_json(_fixed(trial.settings))


def _fixed(settings: Settings) -> dict[str, Any]:
    fixed = {
        table: {name: value for name, value in options.items() if name not in FREE.get(table, ())}
        for table, options in settings.items()
    }
    has = [bool(settings["optimizer"].get("momentum")), settings["optimizer"].get("nesterov", False)]
    if settings["model"]["name"] == "mlp":  # each row of these has a rate of its own
        rate = fixed["model"].pop("dropout")
        has.append(rate > 0)
    return {**fixed, "has": has}


def _examples(numbered: Numbered) -> tuple[int, int, int]:
    trial = numbered[0]
    return trial.replicate, trial.settings["training"]["seed"], trial.fold
