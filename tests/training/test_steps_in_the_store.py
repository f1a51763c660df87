"""Attempts that are interrupted and resumed, read from the store: every step once, as of an uninterrupted one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from trials import MLP, NO_AUGMENTATION, trial

from nnscan import attempt
from nnscan.allocation import Allocation, AllocationEndedError, Reason
from nnscan.launch_folder import Launch
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.training.network import NetworkTraining
from nnscan.training.place import Place

torch.set_num_threads(1)

ONE = trial(
    data={"name": "digits", "normalization": "standard", "test": 0.2, "augmentation": NO_AUGMENTATION},
    model={**MLP, "dropout": 0.2},
    training={"epochs": 3, "batch_size": 256, "steps": ["accuracy", "gradient_norms", "loss"]},
)


class EndsAfter(Allocation):
    """An allocation that is over when it has been asked so many times: once a step."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    @property
    def reason(self) -> Reason | None:  # type: ignore[override]
        self.left -= 1
        return Reason.TIME_LIMIT if self.left < 0 else None

    @reason.setter
    def reason(self, value: Any) -> None:
        """Take no other."""


def make_attempt(folder: ScanFolder, number: int, bundle: str, allocation: Allocation) -> None:
    launch = Launch(name="l", scan="s", metric="val_accuracy", code=".", data_root=".", checkpoint_minutes=0.0)
    folder.path.mkdir(parents=True, exist_ok=True)
    with store.writing(folder, bundle, {}) as writer:
        place = Place(folder, launch, "cpu", writer.name, lambda: False, allocation=allocation)
        attempt.run(ONE, number, writer, lambda: NetworkTraining.open(ONE, place), "val_accuracy")


def steps(folder: ScanFolder) -> Iterator[tuple[Any, ...]]:
    for row in store.read_steps(folder).to_pylist():
        yield row["epoch"], row["name"], row["step"], row["value"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """The steps of an attempt that nothing interrupted."""
    folder = ScanFolder(tmp_path_factory.mktemp("whole") / "scan")
    make_attempt(folder, 1, "a", Allocation())
    return list(steps(folder))


@pytest.mark.parametrize("cuts", [[2], [5], [7], [3, 4]], ids=str)
def test_a_resumed_trial_has_every_step_once(whole: list[tuple[Any, ...]], tmp_path: Path, cuts: list[int]) -> None:
    folder = ScanFolder(tmp_path / "scan")
    for number, cut in enumerate(cuts):
        with pytest.raises(AllocationEndedError):
            make_attempt(folder, 1, f"a{number}", EndsAfter(cut))
        assert list(steps(folder)) == []  # nothing counts before the end
    make_attempt(folder, 1, "b", Allocation())
    assert list(steps(folder)) == whole
    assert len({row[:3] for row in whole}) == len(whole) == 3 * 5 * len({row[1] for row in whole})
