from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from trials import ADAM, CNN, MLP, SGD, trial

from nnscan.fusing import OFF, company, portions, shape_of
from nnscan.trial import Kind


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {**ADAM, "learning_rate": 1.0, "betas": [0.5, 0.5], "schedule": {"name": "cosine"}}},
        {"training": {"seed": 9, "epochs": 7, "gradient_clip": 1.0, "keep": "best"}},
        {"training": {"early_stopping": {"patience": 3, "monitor": "val_accuracy"}}},
        {"task": {"label_smoothing": 0.1}},
        {"data": {"augmentation": {"crop_padding": 1}, "normalization": "none"}},
        {"validation": {"folds": 9}},
        {"fold": 3, "replicate": 2},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_trials_that_differ_so_have_one_shape(changes: dict[str, Any]) -> None:
    assert shape_of(trial(**changes)) == shape_of(trial()) != ""


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {**MLP, "width": 17}},
        {"model": {**MLP, "dropout": 0.5}},
        {"model": {"name": "functions:network", "dropout": [0.1, 0.2]}},  # whatever that is to a network of a user's
        {"optimizer": SGD},
        {"training": {"batch_size": 8}},
        {"task": {"loss": "mse"}},
        {"data": {"name": "mnist"}},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_trials_that_differ_so_have_not(changes: dict[str, Any]) -> None:
    assert "" != shape_of(trial(**changes)) != shape_of(trial())


@pytest.mark.parametrize(("model", "same"), [(MLP, True), (CNN, False)], ids=["by row", "by vmap"])
def test_rates_of_dropout_may_differ_where_each_network_has_its_own(model: dict[str, Any], same: bool) -> None:
    one, other = (shape_of(trial(model={**model, "dropout": rate})) for rate in (0.2, 0.5))
    assert (one == other) is same


def test_momentum_or_none_is_another_shape_and_its_value_is_not() -> None:
    one, other, none = (shape_of(trial(optimizer={**SGD, "momentum": value})) for value in (0.5, 0.9, 0.0))
    assert one == other != none


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": Kind.RETRAINING},
        {"training": {"precision": "bfloat16"}},
        {"training": {"accumulation": 2}},
        {"training": {"steps": ["loss"]}},
        {"training": {"function": "functions:learn"}},
    ],
    ids=str,
)
def test_what_is_trained_alone_has_none(changes: dict[str, Any]) -> None:
    assert shape_of(trial(**changes)) == ""


def test_portions_keep_the_order_of_their_first_and_gather_what_has_the_same_examples() -> None:
    wide, narrow = MLP, {**MLP, "width": 3}
    trials = [(trial(model=model, fold=fold), 1) for model in (wide, narrow, wide) for fold in (1, 0)]
    found = portions(trials, "auto")
    told = [[(one.settings["model"]["width"], one.fold) for one, _ in portion.trials] for portion in found]
    assert told == [[(16, 0), (16, 0), (16, 1), (16, 1)], [(3, 0), (3, 1)]]


def test_what_is_tried_again_goes_by_itself() -> None:
    trials = [(replace(trial(fold=fold), key=str(fold)), number) for fold, number in enumerate((1, 2, 1, 3))]
    found = portions(trials, "auto")
    assert [[one.fold for one, _ in portion.trials] for portion in found] == [[0, 2], [1], [3]]
    assert {portion.shape for portion in found} == {shape_of(trial())}


def test_off_makes_each_trial_a_portion() -> None:
    trials = [(replace(trial(fold=fold), key=str(fold)), 1) for fold in range(3)]
    assert [len(portion.trials) for portion in portions(trials, OFF)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("models", "fuse", "expected"),
    [
        (["mlp"], "auto", 4),
        (["pair", "siamese"], "auto", 4),
        (["mlp", "cnn"], "auto", 1),
        (["mlp", ""], "auto", 1),
        ([], "auto", 1),
        (["mlp"], "off", 1),
        (["cnn"], "16", 16),
        ([""], "16", 1),
    ],
)
def test_a_worker_is_given_as_many_at_a_time_as_it_is_sure_to_train_together(
    models: list[str], fuse: str, expected: int
) -> None:
    assert company(models, fuse) == expected
