from __future__ import annotations

from pathlib import Path

import pytest
from commanding import Command
from scan_by_hand import END, GRID, PLACE, key_of, start_of, write_bundle, write_scan
from submitted_by_hand import running, submitted_scan, tell_queue, waiting

from nnscan import watching
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer

ALL = [(point, fold, 0.5) for point in GRID for fold in range(3)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 0.05)


def test_a_scan_that_is_over_is_told_with_what_to_type_next(nnscan: Command, launched: Path) -> None:
    result = nnscan("watch", "small")
    assert (result.exit_code, result.stdout) == (
        0,
        "2 trials: 2 completed; nothing of scans/small runs or is to start\nLeaderboards: nnscan summarize small\n",
    )
    assert "2 done, 0 running, 0 pending of 2 trials" in result.stderr


def test_what_is_left_is_told_with_the_scheduler_and_how_to_go_on(
    nnscan: Command, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = submitted_scan(empty / "scans" / "s")
    write_bundle(folder, "l-0", ALL[:4])
    tell_queue(monkeypatch, {"100_1": waiting("PartitionTimeLimit"), "100_2": waiting("PartitionTimeLimit")})
    lines = nnscan("watch").stdout.splitlines()
    assert lines[0] == "18 trials: 4 completed, 14 pending; nothing of scans/s runs or is to start"
    assert lines[1].startswith("Slurm: 2 bundles can never start (PartitionTimeLimit)")
    assert lines[2].startswith("Slurm: 1 bundle is not in the queue")
    assert lines[-1] == "Go on with: nnscan launch scans/s/scan.toml --cluster slurm --profile cpu"


def test_a_pipe_gets_a_line_with_what_the_scheduler_says(
    nnscan: Command, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted_scan(empty / "scans" / "s")
    tell_queue(monkeypatch, {"100_0": running("nn3", 65.0)})
    monkeypatch.setattr("nnscan.watching.is_over", lambda *_: True)
    monkeypatch.setattr("nnscan.cli.live.SECONDS_A_LINE", 0.0)
    assert "Slurm: 1 bundle runs on nn3, 0:01:05 left\n" in nnscan("watch").stderr


def test_ctrl_c_ends_the_watching_alone(nnscan: Command, launched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "watch", interrupt)
    result = nnscan("watch")
    assert (result.exit_code, result.stdout) == (
        0,
        "The scan goes on. Look again: nnscan watch small. End it: nnscan cancel small\n",
    )


def first_key(place: Path) -> str:
    table = store.read_trials(ScanFolder(place / "scans" / "small"), ["trial", "kind"]).to_pylist()
    return next(str(row["trial"]) for row in table if row["kind"] == "trial")


def test_a_trial_that_is_over_is_told_at_once(nnscan: Command, launched: Path) -> None:
    key = first_key(launched)
    result = nnscan("watch", "small", "--trial", key[:8])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Trial {key[:8]}: completed after 0:00:0")
    assert "epoch 1 of 1, score 0." in result.stdout
    assert f"Trial {key[:8]}: completed, epoch 1 of 1, train_loss " in result.stderr


def test_a_failed_trial_is_told_with_the_way_to_its_log(nnscan: Command, empty: Path) -> None:
    folder = write_scan(empty / "scans" / "s")
    (folder.launches / "20260101").mkdir(parents=True)
    writer = Writer(folder, "b1", PLACE)
    writer.start(start_of(GRID[0], 0))
    writer.end({"trial": key_of(GRID[0], 0), **END, "status": "failed", "failure": "config", "error": "ValueError: no"})
    key = key_of(GRID[0], 0)
    assert nnscan("watch", "s", "--trial", key).stdout.splitlines() == [
        f"Trial {key[:8]}: failed, no epochs",
        f"Its log: nnscan logs {key[:8]} --scan s",
    ]


def test_a_trial_that_nobody_runs_is_not_waited_for(nnscan: Command, empty: Path) -> None:
    folder = write_scan(empty / "scans" / "s")
    (folder.launches / "20260101").mkdir(parents=True)
    key = key_of(GRID[0], 0)
    assert nnscan("watch", "s", "--trial", key).stdout == f"Trial {key[:8]}: pending, no epochs\n"


def test_an_unknown_key_is_refused(nnscan: Command, launched: Path) -> None:
    result = nnscan("watch", "small", "--trial", "zz")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--trial: found 'zz'; no trial of the scan begins so." in result.stderr
