from __future__ import annotations

from pathlib import Path

import pandas
import pytest
from commanding import Command

THROWING = """
name = "throwing"
[training]
function = "throwing_function:train"
metrics = ["val_loss"]
epochs = 1
[[grid]]
family = "Own"
training.arguments.rate = [1.0, 2.0]
"""
FUNCTION = """
def train(rate):
    if rate > 1.5:
        raise ValueError(f"rate {rate} is too high")
    yield {"val_loss": rate}
"""


@pytest.fixture
def throwing(empty: Path) -> Path:
    """Give a working folder with a scan of two trials, the second of which throws."""
    (empty / "throwing.toml").write_text(THROWING)
    (empty / "throwing_function.py").write_text(FUNCTION)
    return empty


def test_a_launch_says_how_it_ended_and_where_results_lie(nnscan: Command, launched: Path) -> None:
    trial = pandas.read_parquet("scans/small/trials").query("kind == 'trial'")["trial"].iloc[0]
    result = nnscan("launch", "small.toml", "--cluster", "inline", "--trial", trial[:12])
    assert result.exit_code == 0
    assert result.stdout.startswith("1 trial: 1 completed after 0:00:0")
    assert result.stdout.endswith("Results: scans/small\n")


def test_a_second_launch_has_nothing_to_do(nnscan: Command, launched: Path) -> None:
    result = nnscan("launch", "small.toml")
    assert (result.exit_code, result.stdout) == (
        0,
        "2 trials: 2 completed already; nothing was left to do. Results: scans/small\n",
    )


def test_limit_leaves_the_rest_and_says_how_to_go_on(nnscan: Command, launched: Path) -> None:
    result = nnscan("launch", "small.toml", "--cluster", "inline", "--limit", "1", "--set", "training.seed=5")
    assert result.exit_code == 0
    assert "2 trials: 1 completed, 1 pending" in result.stdout
    assert "Go on with: " in result.stdout


def test_set_and_grid_reach_the_scan(nnscan: Command, launched: Path) -> None:
    result = nnscan(
        *("launch", "small.toml", "--dry-run", "--set", "training.epochs=7", "--grid", "model.width=2,4,6,8"),
    )
    assert "model.width                4  2, 4, 6, 8" in result.stdout
    assert "8 configurations, 8 trials: 0 done, 8 to run" in result.stdout


def test_dry_run_writes_nothing(nnscan: Command, empty: Path) -> None:
    result = nnscan("launch", "--dry-run")
    assert result.exit_code == 0
    assert "MLP: 4 configurations, 12 trials" in result.stdout
    assert list(empty.iterdir()) == []


def test_dry_run_without_the_data_says_what_is_missing(nnscan: Command, empty: Path) -> None:
    (empty / "far.toml").write_text(THROWING.replace("throwing", "far").split("[training]")[0] + FAR)
    result = nnscan("launch", "far.toml", "--dry-run", "--data-root", "nowhere")
    assert result.exit_code == 0
    assert "nowhere" in result.stdout.splitlines()[-1]


FAR = """
[data]
name = "mnist"
[training]
epochs = 1
[[grid]]
family = "Own"
model.name = "mlp"
optimizer.name = "sgd"
"""


def test_a_trial_that_throws_is_told_with_its_traceback_and_how_to_run_it_alone(
    nnscan: Command, throwing: Path
) -> None:
    result = nnscan("launch", "throwing.toml", "--cluster", "inline")
    assert result.exit_code == 1
    assert "2 trials: 1 completed, 1 failed" in result.stdout
    assert "ValueError: rate 2.0 is too high" in result.stderr
    assert result.stderr.count('raise ValueError(f"rate {rate} is too high")') == 1
    key = failed_trial()
    assert f"--trial {key[:16]}" in result.stderr


def failed_trial() -> str:
    trials = pandas.read_parquet("scans/throwing/trials")
    return str(trials[trials["status"] == "failed"]["trial"].iloc[0])


def test_a_failed_trial_stays_failed_until_it_is_retried(nnscan: Command, throwing: Path) -> None:
    nnscan("launch", "throwing.toml", "--cluster", "inline")
    again = nnscan("launch", "throwing.toml", "--cluster", "inline")
    assert again.exit_code == 1
    assert "--retry-failed" in again.stdout
    retried = nnscan("launch", "throwing.toml", "--cluster", "inline", "--retry-failed")
    assert "rate 2.0 is too high" in retried.stderr


def test_scan_dir_holds_the_scan_folder(nnscan: Command, throwing: Path) -> None:
    nnscan("launch", "throwing.toml", "--cluster", "inline", "--scan-dir", "elsewhere", "--limit", "1")
    assert (throwing / "elsewhere" / "throwing" / "trials").is_dir()
    assert not (throwing / "scans").exists()


def test_a_wrong_scan_file_tells_every_problem_and_creates_nothing(nnscan: Command, empty: Path) -> None:
    (empty / "wrong.toml").write_text(THROWING.replace("epochs = 1", "epoch = 1") + "training.seed = 'x'\n")
    result = nnscan("launch", "wrong.toml")
    assert result.exit_code == 2
    assert "epoch" in result.stderr
    assert "training.seed" in result.stderr
    assert not (empty / "scans").exists()


def test_an_unknown_scan_names_what_there_is(nnscan: Command, empty: Path) -> None:
    result = nnscan("launch", "digts")
    assert result.exit_code == 2
    assert "digits" in result.stderr


def test_ray_needs_an_address(nnscan: Command, empty: Path) -> None:
    result = nnscan("launch", "--cluster", "ray")
    assert result.exit_code == 2
    assert "--address" in result.stderr


def test_the_resolved_scan_file_launches_the_same_trials(nnscan: Command, launched: Path) -> None:
    stored = nnscan("launch", "scans/small/scan.toml", "--dry-run").stdout
    assert "2 trials: 2 done, 0 to run" in stored
    assert stored == nnscan("launch", "small.toml", "--dry-run").stdout
