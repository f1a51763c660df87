from __future__ import annotations

from pathlib import Path

import pytest
from commanding import Command
from submitted_by_hand import submitted_scan

from nnscan import tracking, watching
from nnscan.cli.track import tracked_beside
from nnscan.launch_options import LaunchOptions
from nnscan.results.folder import ScanFolder
from nnscan.tracking import TrackOptions


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(tracking, "POLL_SECONDS", 0.05)


def files(place: Path) -> list[str]:
    home = place / "scans" / "small" / "tensorboard"
    return sorted(str(path.parent.relative_to(home))[:14] for path in home.rglob("*.nnscan"))


HINT = "Look at it with: tensorboard --logdir scans/small/tensorboard\n"


@pytest.mark.parametrize("follow", [False, True])
def test_trials_and_retrainings_are_tracked(nnscan: Command, launched: Path, follow: bool) -> None:
    result = nnscan("track", "small", "--tensorboard", *(["--follow"] if follow else []))
    assert result.exit_code == 0, result.output
    assert all(name.startswith("MLP/") for name in files(launched))
    assert len(files(launched)) == 3
    assert sum("retrained" in name for name in files(launched)) == 1
    if follow:
        assert HINT in result.stderr
        assert result.stdout.startswith("2 trials: 2 completed; nothing of scans/small runs or is to start\n")
    else:
        assert result.stdout == f"Tracked 2 trials of scans/small\n{HINT}"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param([], "nnscan track: say where to: --tensorboard or --wandb PROJECT", id="nowhere"),
        pytest.param(["--to", "x"], "--to: goes with --tensorboard", id="a folder for nothing"),
        pytest.param(["--tensorboard", "--follow", "--top", "3"], "--top: goes without --follow", id="a moving choice"),
        pytest.param(["--tensorboard", "--family", "CNN"], "--family: found 'CNN'.", id="an unknown family"),
    ],
)
def test_what_makes_no_sense_is_refused(nnscan: Command, launched: Path, words: list[str], problem: str) -> None:
    result = nnscan("track", "small", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert problem in result.stderr
    assert files(launched) == []


def test_a_launch_tracks_and_says_how_to_look_at_it(nnscan: Command, launched: Path) -> None:
    (launched / "small.toml").write_text((launched / "small.toml").read_text().replace("0.001]", "0.001, 0.1]"))
    result = nnscan("launch", "small.toml", "--cluster", "inline", "--tensorboard")
    assert result.exit_code == 0, result.output
    assert result.stdout.endswith(HINT)
    assert len(files(launched)) == 4


def test_a_launch_of_too_many_to_look_at_is_refused(
    nnscan: Command, launched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnscan.trackers.tensorboard.TensorBoard.most", 1)
    result = nnscan("launch", "small.toml", "--cluster", "inline", "--tensorboard")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--tensorboard: 2 trials are more than the 1 runs" in result.stderr


def test_on_slurm_it_is_said_how_to_follow(empty: Path) -> None:
    folder = submitted_scan(empty / "scans" / "s")
    with tracked_beside(folder, LaunchOptions(cluster="slurm"), TrackOptions(tensorboard=True)) as lines:
        assert lines == []
    assert lines == ["Track it while it runs: nnscan track --tensorboard --follow s"]
    assert not folder.tensorboard.exists()


def test_without_being_asked_nothing_is_tracked(empty: Path) -> None:
    with tracked_beside(ScanFolder(empty), LaunchOptions(), TrackOptions()) as lines:
        pass
    assert lines == []


def test_a_tracking_that_ended_early_says_so(nnscan: Command, launched: Path) -> None:
    with tracking.tracked(ScanFolder(launched / "scans" / "small"), TrackOptions(tensorboard=True)):
        result = nnscan("launch", "small.toml", "--cluster", "inline", "--tensorboard")
    assert result.exit_code == 0
    early, then = result.stdout.splitlines()[-2:]
    assert early.startswith("Tracking ended early: ") and "is written by another nnscan" in early
    assert then == "Track it while it runs: nnscan track --tensorboard --follow small"
