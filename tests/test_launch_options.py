from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnscan.errors import ScanError
from nnscan.launch_options import LaunchOptions, Outcome
from nnscan.results.folder import ScanFolder
from nnscan.results.progress import Progress

CASES: dict[str, tuple[dict[str, Any], int]] = {
    "all completed": ({}, 0),
    "one failed": ({"failed": 1}, 1),
    "one diverged": ({"diverged": 1}, 1),
    "stopped": ({"stopped": "5 in a row"}, 1),
    "the back-end died": ({"error": "Ray died"}, 1),
    "interrupted": ({"interrupted": True, "failed": 1}, 130),
    "submitted, one failed before": ({"waited": False, "failed": 1}, 0),
    "not all could be submitted": ({"waited": False, "error": "Slurm took no job"}, 1),
}


@pytest.mark.parametrize(("changes", "code"), CASES.values(), ids=CASES)
def test_exit_codes(changes: dict[str, Any], code: int) -> None:
    counts = {name: changes.pop(name, 0) for name in ("failed", "diverged")}
    progress = Progress(
        total=3, completed=2, running=0, pending=0, families=(), metric="m", seconds=0.0, seconds_left=None, **counts
    )
    outcome = Outcome(folder=ScanFolder(Path("s")), launched=3, progress=progress, **changes)
    assert outcome.exit_code == code


@pytest.mark.parametrize("fuse", ["auto", "off", "1", "64"])
def test_fuse_takes_a_word_or_a_number(fuse: str) -> None:
    assert LaunchOptions(fuse=fuse).fuse == fuse


@pytest.mark.parametrize("fuse", ["0", "-1", "1.5", "on", ""])
def test_another_fuse_is_told(fuse: str) -> None:
    with pytest.raises(ScanError, match=r"--fuse.*auto, off, or how many"):
        LaunchOptions(fuse=fuse)


def test_what_no_launch_can_do_is_told_at_once() -> None:
    with pytest.raises(ScanError) as caught:
        LaunchOptions(cluster="local", profile="gpu", address="here:1", workers=-1)
    assert [problem.path for problem in caught.value.problems] == ["--address", "--profile", "--workers"]
