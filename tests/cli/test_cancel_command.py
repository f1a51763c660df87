from __future__ import annotations

from pathlib import Path

import pytest
from commanding import Command
from submitted_by_hand import KEYS, running, submitted_scan, tell_queue, waiting

from nnscan.cancelling import Cancellation
from nnscan.cli.cancel import cancel_lines
from nnscan.results.folder import ScanFolder
from nnscan.results.lock import hold

AGAIN = "What finished is kept. Go on with: nnscan launch scans/s/scan.toml --cluster slurm --profile cpu"


@pytest.fixture
def submitted(empty: Path, monkeypatch: pytest.MonkeyPatch) -> ScanFolder:
    """A working folder with a scan on Slurm, of which one bundle runs and two wait."""
    tell_queue(monkeypatch, {"100_0": running(), "100_1": waiting(), "100_2": waiting()})
    monkeypatch.setattr("nnscan.launchers.slurm.launcher.run", lambda _: "")
    return submitted_scan(empty / "scans" / "s")


def test_a_scan_on_slurm(nnscan: Command, submitted: ScanFolder) -> None:
    result = nnscan("cancel", "s")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "Cancelled scans/s: no further trial of it starts.",
            "Slurm was told to end 1 job with 3 bundles: 100",
            AGAIN,
        ],
    )
    assert "Stopped: cancelled by " in nnscan("status", "s").stdout


def test_a_family_and_a_trial(nnscan: Command, submitted: ScanFolder) -> None:
    result = nnscan("cancel", "s", "--trial", KEYS[2][:10], "--trial", KEYS[3])
    assert result.stdout.splitlines() == [
        f"Cancelled trial {KEYS[2][:8]}, trial {KEYS[3][:8]} of scans/s: workers pass over them until the next launch.",
        AGAIN,
    ]
    assert "Slurm was told to end 2 jobs with 2 bundles: 100_1, 100_2" in nnscan("cancel", "--family", "MLP").stdout
    assert "Cancelled until the next launch: family MLP, 2 trials" in nnscan("status").stdout


def test_what_is_wrong_ends_with_2_and_names_the_nearest(nnscan: Command, submitted: ScanFolder) -> None:
    result = nnscan("cancel", "--family", "MPL")
    assert result.exit_code == 2
    assert "Did you mean 'MLP'?" in result.stderr


def test_a_scan_on_this_machine(nnscan: Command, launched: Path) -> None:
    with hold(ScanFolder(Path("scans/small")), "nnscan launch small.toml"):
        said = nnscan("cancel").stdout.splitlines()
    assert said[1].startswith("Its workers end after the trial that each trains now; Ctrl-C ends it at once: nnscan l")
    assert said[2] == "What finished is kept. Go on with: nnscan launch scans/small/scan.toml --cluster inline"


def test_a_scan_of_which_nothing_runs(nnscan: Command, launched: Path) -> None:
    result = nnscan("cancel")
    assert (result.exit_code, result.stdout) == (
        0,
        "Nothing of scans/small runs or is queued: nothing was cancelled.\n",
    )


def test_a_silent_scheduler_is_told(submitted: ScanFolder) -> None:
    said = " ".join(cancel_lines(submitted, Cancellation(error="scancel: no controller")))
    assert "Slurm could not be told (scancel: no controller). Workers end before their next trial all the same" in said


def test_only_trials_with_a_result(submitted: ScanFolder) -> None:
    assert list(cancel_lines(submitted, Cancellation(ended=(KEYS[0],)))) == [
        f"Trial {KEYS[0][:8]} has a result already: it stays."
    ]


def test_many_jobs_are_counted(submitted: ScanFolder) -> None:
    jobs = tuple(str(number) for number in range(1, 31))
    said = list(cancel_lines(submitted, Cancellation(jobs=jobs)))
    assert said[1] == "Slurm was told to end 30 jobs: 1, 2, 3, 4, 5, 6, 7, 8, 22 more"
