from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_live import OVER, PROGRESS

from nnscan.cli import outcome as outcomes
from nnscan.launch_options import FailedTrial, LaunchOptions, Outcome, Submitted, SubmittedJob
from nnscan.results.folder import ScanFolder

FOLDER = ScanFolder(Path("scans/a"))
COMMAND = "nnscan launch a"


def ending(**fields: object) -> list[str]:
    """Return what is said of an outcome."""
    given = {"folder": FOLDER, "launched": 5, "progress": OVER, "seconds": 61.0, **fields}
    return list(outcomes.ending_lines(Outcome(**given), COMMAND))  # type: ignore[arg-type]


def failed(key: str, traceback: str) -> FailedTrial:
    """Return a failed trial."""
    return FailedTrial(key=key * 32, error="ValueError: no", traceback=traceback, command=f"run {key}")


def test_counts_time_and_place() -> None:
    assert ending()[0] == "12 trials: 11 completed, 1 failed after 0:01:01. Results: scans/a"


def test_a_launch_that_waited_for_jobs_of_earlier_ones_ran() -> None:
    assert ending(launched=0, elsewhere=3)[0].endswith("after 0:01:01. Results: scans/a")
    assert "nothing was left to do" in ending(launched=0)[0]


def test_an_interruption_says_how_to_go_on() -> None:
    said = ending(interrupted=True, progress=PROGRESS)
    assert said[0].startswith("12 trials: 3 completed, 1 failed, 8 pending after")
    assert said[1] == "Interrupted; what finished is kept. Go on with: nnscan launch a"


@pytest.mark.parametrize("field", ["error", "stopped"])
def test_a_launch_that_broke_off_says_how_to_go_on(field: str) -> None:
    assert ending(**{field: "Ray died"})[1] == "What finished is kept. Go on with: nnscan launch a"


def test_a_traceback_that_trials_share_is_shown_once() -> None:
    lines = list(outcomes.failure_lines([failed("a", "T1\nT2"), failed("b", "T1\nT2"), failed("c", "other")], 9))
    assert lines == [
        "Failed: trial aaaaaaaa: ValueError: no",
        "    T1",
        "    T2",
        "    Run it alone: run a",
        "Failed: trial bbbbbbbb: ValueError: no",
        "    Run it alone: run b",
        "Failed: trial cccccccc: ValueError: no",
        "    other",
        "    Run it alone: run c",
        "6 more failed; nnscan summarize lists the causes.",
    ]


def test_errors_go_to_stderr_and_counts_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    outcomes.tell(Outcome(folder=FOLDER, launched=1, progress=OVER, error="Ray died"), LaunchOptions(), "retraining")
    said = capsys.readouterr()
    assert said.err == "Error: Ray died\n"
    assert said.out.startswith("12 retrainings: 11 completed, 1 failed")


@pytest.mark.parametrize(
    ("program", "said"), [("/x/bin/nnscan", "nnscan launch 'a b'"), ("/x/__main__.py", "python -m nnscan launch 'a b'")]
)
def test_this_command_can_be_typed_again(monkeypatch: pytest.MonkeyPatch, program: str, said: str) -> None:
    monkeypatch.setattr(sys, "argv", [program, "launch", "a b"])
    assert outcomes.this_command() == said


SUBMITTED = Submitted(
    launch="l",
    jobs=(
        SubmittedJob(job="1234", bundles=16, trials=1000, minutes=60, partition="main"),
        SubmittedJob(job="1240", bundles=1, trials=3, minutes=1500, partition=""),
    ),
    retrain_job="1241",
)
NEXT = [
    "The jobs go on without this shell. What to type next:",
    "  nnscan watch a        live, until the end",
    "  nnscan status a       how far it is, once",
    "  nnscan logs --scan a  the words of its workers",
    "  nnscan cancel a       end it; what finished is kept",
    "  nnscan summarize a    leaderboards, of what has finished",
]


def submitted(**fields: object) -> Outcome:
    """Return the outcome of a launch on Slurm that does not wait."""
    begun = replace(PROGRESS, failed=0, completed=4)
    return Outcome(**{"folder": FOLDER, "launched": 8, "progress": begun, "submitted": SUBMITTED, **fields})  # type: ignore[arg-type]


def test_what_was_submitted_is_told_with_what_to_type_next() -> None:
    assert list(outcomes.going_on_lines(submitted())) == [
        "Submitted array 1234: 16 bundles of about 62 trials, partition main, 1:00:00",
        "Submitted job 1240: 1 bundle of 3 trials, 1 day, 1:00:00",
        "Submitted job 1241: retrains the winners when the others have ended",
        "12 trials: 4 completed, 8 pending. Results: scans/a",
        *NEXT,
    ]


def test_trials_that_earlier_jobs_hold_are_told() -> None:
    said = list(outcomes.going_on_lines(submitted(submitted=None, elsewhere=8)))
    assert said == [
        "8 trials left to jobs of earlier launches",
        "12 trials: 4 completed, 8 pending. Results: scans/a",
        *NEXT,
    ]


def test_where_nothing_was_left_nothing_goes_on() -> None:
    over = replace(OVER, failed=0, completed=12)
    assert list(outcomes.going_on_lines(submitted(submitted=None, progress=over))) == [
        "12 trials: 12 completed. Results: scans/a"
    ]


@pytest.mark.parametrize(
    ("options", "fields", "goes_on"),
    [
        ({"cluster": "slurm"}, {}, True),
        ({"cluster": "slurm", "wait": True}, {}, False),
        ({"cluster": "slurm", "wait": True}, {"interrupted": True}, True),
        ({"cluster": "slurm"}, {"error": "sbatch: no"}, False),
        ({"cluster": "local"}, {"submitted": None}, False),
    ],
    ids=["submitted", "waited", "interrupted", "refused", "local"],
)
def test_only_what_goes_on_elsewhere_is_told_to_go_on(
    capsys: pytest.CaptureFixture[str], options: dict[str, object], fields: dict[str, object], *, goes_on: bool
) -> None:
    outcomes.tell(submitted(**fields), LaunchOptions(**options))  # type: ignore[arg-type]
    assert (NEXT[0] in capsys.readouterr().out) is goes_on
