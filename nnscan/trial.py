"""What is trained: a trial, its kind, and how it can end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Settings = Mapping[str, Any]
"""A configuration, resolved: `data`, `model`, `optimizer`, `task`, `training`, `validation`, defaults included."""


class Kind(StrEnum):
    """What a training is for."""

    TRIAL = "trial"
    """Trains on a fold's training part and is judged on its validation part."""
    RETRAINING = "retraining"
    """Trains on the whole training set and is tested once, at its end."""


class Status(StrEnum):
    """How an attempt at a trial ended. Pending and running are derived: they have no end row."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    """A loss became NaN or infinite: recorded, not an exception."""
    FAILED = "failed"


class Failure(StrEnum):
    """Why an attempt failed."""

    CONFIG = "config"
    """The model, the data or the training function threw."""
    OUT_OF_MEMORY = "out of memory"
    LOST = "lost"
    """The worker process died in it."""
    OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """One training: a configuration, a fold, a replicate. The unit of retry, resume and results."""

    key: str
    """32 hex digits (`nnscan.identity.trial_key`)."""

    configuration: str
    """Key of the configuration, 32 hex digits."""

    settings: Settings
    """The configuration itself."""

    families: tuple[str, ...]
    """The families that hold the configuration: a property of the scan file."""

    kind: Kind = Kind.TRIAL

    epochs: int = 0
    """Epochs to train; of a trial `training.epochs`, of a retraining what the winner's mean curve gave."""

    fold: int = 0
    """Which part validates, from 0; 0 with a hold-out and in a retraining."""

    replicate: int = 0
    """Which repeat (data draw, initialisation, order), from 0."""

    attempts: int = 0
    """Attempts that count against the limit of three, made before this launch."""
