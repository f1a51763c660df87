from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from commanding import Command
from scan_by_hand import END, GRID, PLACE, start_of
from submitted_by_hand import KEYS, LAUNCH, end_bundle, running, submitted_scan, tell_queue

from nnscan import logs
from nnscan.cli.logs import list_lines
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Writer

SLURM = {**PLACE, "host": "nn1", "pid": 71}


@pytest.fixture
def submitted(empty: Path, monkeypatch: pytest.MonkeyPatch) -> ScanFolder:
    """A working folder with a scan on Slurm whose first bundle has two ranks that printed, and a trial that failed."""
    folder = submitted_scan(empty / "scans" / "s")
    tell_queue(monkeypatch, {"100_1": running()})
    folder.logs.mkdir()
    (folder.logs / f"{LAUNCH}-0.0.log").write_text("rank 0\nover\n")
    (folder.logs / f"{LAUNCH}-0.1.log").write_text("rank 1\n")
    (folder.logs / f"{LAUNCH}-6.0.log").write_text("")
    writer = Writer(folder, f"{LAUNCH}-0", SLURM)
    writer.start(start_of(GRID[0], 0))
    failed = {"status": "failed", "failure": "config", "error": "ValueError: no", "traceback": "T1\n  T2\n"}
    writer.end({"trial": KEYS[0], **END, **failed})
    writer.close()
    end_bundle(folder, 0)
    return folder


def test_the_logs_there_are_by_bundle_the_latest_last(submitted: ScanFolder) -> None:
    now = time.time()
    for age, name in enumerate((f"{LAUNCH}-6.0", f"{LAUNCH}-0.1", f"{LAUNCH}-0.0")):
        os.utime(submitted.logs / f"{name}.log", (now - age, now - age))
    assert list(list_lines(submitted, logs.logs(submitted), now)) == [
        f"bundle {LAUNCH}-0",
        f"  logs/{LAUNCH}-0.0.log       12 B  0:00:02 ago",
        f"  logs/{LAUNCH}-0.1.log        7 B  0:00:01 ago",
        f"bundle {LAUNCH}-6",
        f"  logs/{LAUNCH}-6.0.log        0 B  0:00:00 ago",
    ]


def test_a_failed_trial_has_its_log_and_then_its_traceback(nnscan: Command, submitted: ScanFolder) -> None:
    result = nnscan("logs", KEYS[0][:8])
    assert result.exit_code == 0
    assert result.stdout == (
        f"==> scans/s/logs/{LAUNCH}-0.0.log <==\nrank 0\nover\n"
        f"\n==> scans/s/logs/{LAUNCH}-0.1.log <==\nrank 1\n"
        "T1\n  T2\nFailed: ValueError: no\n"
    )
    assert result.stderr == (
        f"The scan launched last: scans/s\nTrial {KEYS[0][:8]}: failed, on nn1 (process 71)\nBundle {LAUNCH}-0\n"
    )


def test_a_bundle_by_its_job(nnscan: Command, submitted: ScanFolder) -> None:
    result = nnscan("logs", "100_1", "--scan", "s")
    assert (result.stdout, result.stderr.splitlines()) == (
        "",
        [f"Bundle {LAUNCH}-6, job 100_1", f"Nothing was printed: scans/s/logs/{LAUNCH}-6.0.log"],
    )


def test_following_ends_where_the_bundle_has_ended(nnscan: Command, submitted: ScanFolder) -> None:
    assert "rank 0\nover\n" in nnscan("logs", f"{LAUNCH}-0", "--follow").stdout


def test_ctrl_c_ends_the_following_alone(
    nnscan: Command, submitted: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nnscan.logs.time", SimpleNamespace(sleep=interrupt))
    (submitted.logs / f"{LAUNCH}-6.0.log").write_text("so far\n")
    result = nnscan("logs", f"{LAUNCH}-6", "--follow")
    assert (result.exit_code, result.stdout) == (0, f"==> scans/s/logs/{LAUNCH}-6.0.log <==\nso far\n")


def test_following_everybody_shows_what_is_new(
    nnscan: Command, submitted: ScanFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pause(_: float) -> None:
        with (submitted.logs / f"{LAUNCH}-6.0.log").open("a") as file:
            file.write("new\n")
        tell_queue(monkeypatch, {})

    monkeypatch.setattr("nnscan.logs.time", SimpleNamespace(sleep=pause))
    assert nnscan("logs", "--follow").stdout == f"==> scans/s/logs/{LAUNCH}-6.0.log <==\nnew\n"


def test_a_trial_of_a_bundle_without_a_log_says_so(nnscan: Command, submitted: ScanFolder) -> None:
    (submitted.logs / f"{LAUNCH}-6.0.log").unlink()
    said = nnscan("logs", KEYS[7]).stderr.splitlines()
    assert said[1:] == [
        f"Trial {KEYS[7][:8]}: waits for its turn",
        f"Bundle {LAUNCH}-6, job 100_1",
        "It has no log yet: its job has not started a worker.",
    ]


def test_a_scan_trained_in_the_launching_process_has_no_logs(nnscan: Command, launched: Path) -> None:
    assert nnscan("logs").stdout.startswith("scans/small has no logs")


def test_what_nothing_begins_with_ends_with_2(nnscan: Command, launched: Path) -> None:
    result = nnscan("logs", "xyz")
    assert result.exit_code == 2
    assert "no trial and no bundle of this scan begins with 'xyz'" in result.stderr
