"""Weights of every n-th epoch of a trial: model folders `kept/<trial key>.epoch-0010/` (`training.keep_every`)."""

from __future__ import annotations

import shutil
from pathlib import Path

from nnscan.models.folder import ModelCard, save_model
from nnscan.results.folder import ScanFolder, told
from nnscan.training.state import TrainingState


def folder_of(folder: ScanFolder, key: str, epoch: int) -> Path:
    """Return where the weights of the trial `key` after `epoch` lie."""
    return folder.kept / f"{key}.epoch-{epoch:04d}"


def is_due(state: TrainingState) -> bool:
    """Return whether the weights as they are between two epochs stay."""
    every = state.trial.settings["training"].get("keep_every", 0)
    return bool(every) and state.epoch > 0 and state.epoch % every == 0


def keep(folder: ScanFolder, state: TrainingState, card: ModelCard) -> None:
    """Write the weights as they are; StoreError where they cannot be written."""
    save_model(folder_of(folder, state.trial.key, state.epoch), state.model, card)


def remove_later(folder: ScanFolder, key: str, epoch: int) -> None:
    """Remove what an earlier attempt kept of epochs after `epoch`: this one makes them anew, or never gets there."""
    with told(folder.kept):
        for path in folder.kept.glob(f"{key}.epoch-*"):
            if _epoch(path) > epoch:
                shutil.rmtree(path)


def _epoch(path: Path) -> int:
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1
