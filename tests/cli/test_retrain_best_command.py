from __future__ import annotations

import json
import re
from pathlib import Path

from commanding import Command


def test_it_says_what_was_retrained_how_it_tests_and_where_the_model_lies(nnscan: Command, launched: Path) -> None:
    result = nnscan("retrain-best", "--epochs", "2")  # inline, as the scan was launched
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"MLP: [0-9a-f]{8}  optimizer.learning_rate 0.01", lines[0])
    assert lines[1] == "  2 epochs, as asked"
    assert re.fullmatch(r"  test accuracy 0\.\d{4}, test loss \d\.\d{4}; trained in 0:00:\d\d", lines[2])
    assert lines[3] == "  model in scans/small/models/MLP"
    assert lines[4].startswith("1 retraining: 1 completed after")


def test_what_is_retrained_already_is_left(nnscan: Command, launched: Path) -> None:
    result = nnscan("retrain-best")
    assert "1 retraining: 1 completed already; nothing was left to do." in result.stdout
    assert re.search(r"  \d epochs?, where its folds are best on average: 0\.\d{4}\n", result.stdout)


def test_pending_trials_are_refused_until_told_otherwise(nnscan: Command, launched: Path) -> None:
    nnscan("launch", "small.toml", "--cluster", "inline", "--set", "training.seed=9", "--limit", "1")
    refused = nnscan("retrain-best")
    assert refused.exit_code == 2
    assert "1 of 2 trials have no result yet" in refused.stderr
    assert nnscan("retrain-best", "--incomplete").exit_code == 0


def test_another_cluster_may_be_named(nnscan: Command, launched: Path) -> None:
    result = nnscan("retrain-best", "--cluster", "ray")
    assert result.exit_code == 2
    assert "--address" in result.stderr


def test_an_unknown_family_names_what_there_is(nnscan: Command, launched: Path) -> None:
    result = nnscan("retrain-best", "--family", "MPL")
    assert result.exit_code == 2
    assert "MLP" in result.stderr


def test_the_model_card_names_the_test_result_that_was_printed(nnscan: Command, launched: Path) -> None:
    printed = re.search(r"test accuracy (0\.\d{4})", nnscan("retrain-best").stdout)
    card = json.loads((launched / "scans/small/models/MLP/model.json").read_text())
    assert printed is not None
    assert f"{card['results']['test_accuracy']:.4f}" == printed[1]
