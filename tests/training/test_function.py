from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnscan.allocation import Allocation, AllocationEndedError, Reason
from nnscan.identity import Purpose, seed32
from nnscan.launch_folder import Launch
from nnscan.results.folder import ScanFolder
from nnscan.training.function import FunctionTraining
from nnscan.training.place import Place
from nnscan.trial import Kind, Trial

Rows = Iterator[dict[str, Any]]


def told(**offered: Any) -> Rows:
    yield {"val_loss": 1.0}


def named(*, seed: int, fold: int | None, folds: int, replicate: int, epochs: int, device: str, data_root: str) -> Rows:
    CALLS.append({"seed": seed, "fold": fold, "folds": folds, "replicate": replicate, "epochs": epochs})
    CALLS.append({"device": device, "data_root": data_root})
    yield {"val_loss": 1.0}


def two_arguments(*, rate: float, seed: int) -> Rows:
    CALLS.append({"rate": rate, "seed": seed})
    yield {"val_loss": rate}


def endless() -> Rows:
    """Knows nothing of its length."""
    number = 0
    while True:
        number += 1
        CALLS.append({"epoch": number})
        yield {"val_loss": 1 / number}


def with_a_last_word(*, epochs: int) -> Rows:
    for number in range(epochs):
        yield {"val_loss": float(number)}
    CALLS.append({"last": epochs})


def short() -> Rows:
    yield {"val_loss": 1.0}


def nothing() -> Rows:
    yield from ()


def misnamed() -> Rows:
    yield {"loss": 1.0}


def numbers_alone() -> Iterator[float]:
    yield 1.0


def words() -> Rows:
    yield {"val_loss": "small"}


def scalars() -> Rows:
    yield {"val_loss": torch.tensor(0.5)}
    yield {"val_loss": np.float32(0.25)}
    yield {"val_loss": 1}


def no_generator() -> dict[str, float]:
    return {"val_loss": 1.0}


def draws() -> Rows:
    while True:
        yield {"val_loss": random.random() + float(np.random.random()) + torch.rand(()).item()}


CALLS: list[dict[str, Any]] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    CALLS.clear()


def training(tmp_path: Path, function: str, *, epochs: int = 3, **changes: Any) -> FunctionTraining:
    launch = Launch(name="l", scan="s", metric="val_loss", code=".", data_root="/data", cpus_per_trial=1)
    place = Place(ScanFolder(tmp_path), launch, "cpu", "w", lambda: False)
    settings = {
        "data": {},
        "training": {
            "function": f"{__name__}:{function}",
            "metrics": ["val_loss"],
            "arguments": changes.pop("arguments", {}),
            "epochs": epochs,
            "seed": 5,
        },
        "validation": {"folds": 3, "stratified": True},
    }
    given = {"fold": 2, "replicate": 1, "epochs": epochs, **changes}
    return FunctionTraining(Trial(key="k", configuration="c", settings=settings, families=("A",), **given), place)


def rows(of: FunctionTraining) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "epoch_seconds"} for row in of.epochs()]


def test_a_function_is_told_what_its_signature_names(tmp_path: Path) -> None:
    rows(training(tmp_path, "named"))
    seed = seed32(5, Purpose.INITIALISATION, replicate=1, fold=2)
    assert [
        {"seed": seed, "fold": 2, "folds": 3, "replicate": 1, "epochs": 3},
        {"device": "cpu", "data_root": "/data"},
    ] == CALLS


def test_in_a_retraining_it_is_told_no_fold(tmp_path: Path) -> None:
    rows(training(tmp_path, "named", kind=Kind.RETRAINING, fold=0, replicate=0))
    assert CALLS[0]["fold"] is None


def test_arguments_of_the_scan_file_come_by_name_beside_what_nnscan_offers(tmp_path: Path) -> None:
    rows(training(tmp_path, "two_arguments", arguments={"rate": 0.25}))
    assert [{"rate": 0.25, "seed": seed32(5, Purpose.INITIALISATION, replicate=1, fold=2)}] == CALLS


def test_what_a_signature_does_not_name_is_not_passed(tmp_path: Path) -> None:
    assert rows(training(tmp_path, "short")) == [{"val_loss": 1.0}]
    assert rows(training(tmp_path, "told")) == [{"val_loss": 1.0}]  # **kwargs names nothing


def test_at_most_so_many_epochs_are_taken(tmp_path: Path) -> None:
    assert rows(training(tmp_path, "endless")) == [{"val_loss": 1.0}, {"val_loss": 0.5}, {"val_loss": 1 / 3}]
    assert [call["epoch"] for call in CALLS] == [1, 2, 3]  # it is not asked for a fourth


def test_a_function_that_knows_its_epochs_runs_to_its_end(tmp_path: Path) -> None:
    assert len(rows(training(tmp_path, "with_a_last_word"))) == 3
    assert CALLS == [{"last": 3}]


def test_numbers_of_any_kind_become_floats(tmp_path: Path) -> None:
    found = [row["val_loss"] for row in rows(training(tmp_path, "scalars"))]
    assert found == [0.5, 0.25, 1.0]
    assert {type(value) for value in found} == {float}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("nothing", "yielded nothing"),
        ("misnamed", r"yielded \['loss'\]; training.metrics says \['val_loss'\]"),
        ("numbers_alone", r"yielded float; training.metrics says"),
        ("no_generator", "yielded str"),
        ("words", "could not convert"),
    ],
)
def test_what_is_no_row_of_metrics_is_an_error(tmp_path: Path, function: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rows(training(tmp_path, function))


def test_draws_depend_on_seed_replicate_fold_and_epoch_alone(tmp_path: Path) -> None:
    first = rows(training(tmp_path, "draws"))
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert rows(training(tmp_path, "draws")) == first
    assert rows(training(tmp_path, "draws", epochs=1)) == first[:1]
    others = [rows(training(tmp_path, "draws", fold=1)), rows(training(tmp_path, "draws", replicate=0))]
    values = {row["val_loss"] for found in (first, *others) for row in found}
    assert len(values) == 9


@pytest.mark.parametrize("ends_after", [1, 2])
def test_it_ends_with_its_allocation_behind_the_epoch_that_runs(tmp_path: Path, ends_after: int) -> None:
    allocation = Allocation()
    one = training(tmp_path, "endless")
    found = []
    with pytest.raises(AllocationEndedError, match="terminated"):
        for row in FunctionTraining(one.trial, replace(one.place, allocation=allocation)).epochs():
            found.append(row)
            if len(found) == ends_after:
                allocation.end(Reason.TERMINATED)
    assert len(found) == ends_after


def test_a_signal_in_its_last_epoch_takes_nothing_from_it(tmp_path: Path) -> None:
    one = training(tmp_path, "with_a_last_word", epochs=1)
    allocation = Allocation(reason=Reason.TIME_LIMIT)
    assert len(rows(FunctionTraining(one.trial, replace(one.place, allocation=allocation)))) == 1
    assert CALLS == [{"last": 1}]


def test_it_runs_on_as_many_threads_as_were_asked_for(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        rows(training(tmp_path, "short"))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_its_rows_tell_which_code_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_meanwhile.py").write_text("def f():\n    yield {'val_loss': 1.0}\n")
    one = training(tmp_path, "short")
    settings = {**one.trial.settings, "training": {"function": "edited_meanwhile:f"}}
    before = one.place.code_fingerprint(settings)
    assert len(before) == 32
    assert before != one.columns()["code_fingerprint"]
    (tmp_path / "edited_meanwhile.py").write_text("def f():\n    yield {'val_loss': 2.0}\n")
    assert one.place.code_fingerprint(settings) == before  # of this launch; what this process imported then runs
    sys.modules.pop("edited_meanwhile", None)
