from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_live import OVER, PROGRESS

from nnscan.cli import outcome as outcomes
from nnscan.launch_options import FailedTrial, LaunchOptions, Outcome
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
