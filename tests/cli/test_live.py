from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from nnscan.cli import live
from nnscan.results.progress import FamilyProgress, Progress

MLP = FamilyProgress(
    name="MLP",
    total=6,
    completed=3,
    diverged=0,
    failed=1,
    running=1,
    pending=1,
    best=0.98765,
    configuration="8f3a2b1c" * 4,
    scored=3,
    n=3,
)
CNN = replace(MLP, name="CNN", completed=0, failed=0, running=1, pending=5, best=None, configuration="", scored=0, n=0)
PROGRESS = Progress(
    total=12,
    completed=3,
    diverged=0,
    failed=1,
    running=2,
    pending=6,
    families=(MLP, CNN),
    metric="val_accuracy",
    seconds=65.4,
    seconds_left=130.0,
)
OVER = replace(PROGRESS, completed=11, failed=1, running=0, pending=0, seconds_left=None)


def drawn(progress: Progress, *, height: int = 25, **options: Any) -> list[str]:
    """Return the lines that a terminal of 80 columns shows."""
    console = Console(file=StringIO(), width=80, height=height, force_terminal=True, color_system=None)
    console.print(live.drawing(progress, (80, height), **options))
    return console.file.getvalue().rstrip("\n").split("\n")  # type: ignore[attr-defined]


def test_a_line_tells_everything() -> None:
    assert live.line(PROGRESS) == (
        "0:01:05  3 done, 2 running, 6 pending, 1 failed of 12 trials; best val_accuracy: MLP 0.9877; 0:02:10 left"
    )


def test_states_are_named_only_where_something_went_wrong() -> None:
    assert dict(live.states(replace(PROGRESS, failed=0))) == {"done": 3, "running": 2, "pending": 6}
    assert dict(live.states(replace(PROGRESS, diverged=4)))["diverged"] == 4


def test_a_best_says_when_it_stands_on_fewer_trials() -> None:
    assert live.best(MLP, "val_accuracy") == "best val_accuracy 0.9877"
    assert live.best(replace(MLP, scored=2), "val_loss") == "best val_loss 0.9877 (2 of 3 trials)"
    assert live.best(CNN, "val_accuracy") == ""


def test_the_drawing_tells_everything_at_80_columns() -> None:
    lines = drawn(PROGRESS)
    assert "4 of 12 trials   33%" in lines[0]
    assert re.split("  +", lines[1]) == ["done 3", "running 2", "pending 6", "failed 1", "0:01:05, 0:02:10 left"]
    assert re.split("  +", lines[2].strip()) == ["MLP", "4 of 6", "best val_accuracy 0.9877", "8f3a2b1c"]
    assert re.split("  +", lines[3].strip()) == ["CNN", "0 of 6"]
    assert all(len(text) <= 80 for text in lines)


def test_the_bar_is_as_long_as_the_share_that_ended() -> None:
    def length(progress: Progress) -> int:
        bar = Console(file=StringIO(), width=80, force_terminal=True, color_system="standard", legacy_windows=False)
        bar.print(live.drawing(progress))
        return bar.file.getvalue().split("\n")[0].split("\x1b[")[1].count("━")  # type: ignore[attr-defined]

    assert length(OVER) == pytest.approx(2 * length(replace(OVER, completed=5, pending=6)), abs=2)


def test_the_clock_goes_on_between_two_looks() -> None:
    assert "0:01:07, 0:02:08 left" in drawn(PROGRESS, since=2.0)[1]


def test_nothing_is_left_at_the_end() -> None:
    assert "left" not in "".join(drawn(replace(OVER, seconds_left=0.0)))


def test_workers_that_have_yet_to_start_are_told() -> None:
    idle = replace(PROGRESS, running=0, pending=8)
    assert drawn(idle, starting=True)[1].startswith("done 3  workers start  pending 8  failed 1")
    assert drawn(idle)[1].startswith("done 3  running 0  pending 8  failed 1")
    assert drawn(PROGRESS, starting=True)[1].startswith("done 3  running 2")


def test_a_scan_without_trials_is_drawn() -> None:
    assert "0 of 0 trials  100%" in drawn(replace(OVER, total=0, completed=0, failed=0, families=()))[0]


def test_more_families_than_lines_are_counted() -> None:
    lines = drawn(replace(PROGRESS, families=(MLP,) * 40), height=15)
    assert lines[-1].strip() == "and 31 families more"
    assert len(lines) <= 15 - 3


def test_a_log_has_a_line_at_the_first_look_then_every_ten_seconds_and_one_at_the_end() -> None:
    lines: list[str] = []
    log = live.Log(lines.append)
    for tenth in range(0, 251):
        log(replace(PROGRESS, seconds=tenth / 10))
    log(replace(OVER, seconds=25.1))
    log(replace(OVER, seconds=99.0))
    assert [text.split("  ")[0] for text in lines] == ["0:00:00", "0:00:10", "0:00:20", "0:00:25"]


def test_a_pipe_gets_lines_without_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    with live.showing("Starting ...") as show:
        show(PROGRESS)
    assert capsys.readouterr().err == f"{live.line(PROGRESS)}\n"


def test_what_the_scheduler_says_stands_between_states_and_families() -> None:
    lines = drawn(PROGRESS, below=["Slurm: 2 bundles wait: [Resources] 2", "  more of it"])
    assert [text.rstrip() for text in lines[2:4]] == ["Slurm: 2 bundles wait: [Resources] 2", "  more of it"]
    assert lines[4].startswith("MLP")


def test_families_leave_room_for_what_the_scheduler_says() -> None:
    lines = drawn(replace(PROGRESS, families=(MLP,) * 40), height=15, below=["a", "b", "c"])
    assert lines[-1].strip() == "and 34 families more"
    assert len(lines) <= 15 - 3


def test_a_log_tells_what_the_scheduler_says_with_each_line() -> None:
    lines: list[str] = []
    log = live.Log(lines.append, lambda: ["Slurm: 1 bundle waits"])
    log(replace(PROGRESS, seconds=0.0))
    log(replace(PROGRESS, seconds=1.0))
    log(replace(PROGRESS, seconds=11.0))
    assert lines[1::2] == ["Slurm: 1 bundle waits"] * 2
    assert len(lines) == 4
