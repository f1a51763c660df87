"""Whether nodes see the scan folder is asked before the first trial, once for all scans of a place and a partition."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nnscan.errors import ScanError
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm import visible as slurm_visible
from nnscan.launchers.slurm.profile import Profile
from nnscan.launchers.slurm.request import Request
from nnscan.launchers.slurm.visible import SCRIPT, check_visible, ended
from nnscan.results.folder import ScanFolder


def request(**profile: Any) -> Request:
    return Request(Launch(name="l", scan="s", metric="m", code="/", data_root="/"), Profile(**profile))


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    return ScanFolder(tmp_path / "scans" / "x")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm whose jobs run at once, here, in a place where the scan folder is or is not seen."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    command(
        bin_,
        "sbatch",
        f'while [ "$1" != /dev/stdin ]; do shift; done; shift; bash -s -- "$@"; echo $? > {bin_}/code; echo 12',
    )
    state = f"JobState=$([ $(cat {bin_}/code) = 0 ] && echo COMPLETED || echo FAILED)"
    command(bin_, "scontrol", f'echo "JobId=12 {state} ExitCode=$(cat {bin_}/code):0"')
    command(bin_, "scancel", f"echo $* >> {bin_}/cancelled")
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_visible, "ASK_SECONDS", 0.2)
    return bin_


def command(bin_: Path, name: str, line: str) -> None:
    (bin_ / name).write_text(f"#!/bin/bash\n{line}\n")
    (bin_ / name).chmod(0o755)


def left(folder: ScanFolder) -> list[str]:
    return [path.name for path in folder.path.iterdir()]


def test_a_folder_that_is_seen_is_remembered_for_its_partition(folder: ScanFolder, commands: Path) -> None:
    assert check_visible(folder, request()) == ""
    assert left(folder) == []
    command(commands, "sbatch", "exit 1")
    assert check_visible(ScanFolder(folder.path.parent / "another"), request()) == ""
    assert "not found out" in check_visible(folder, request(partition="other"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ('set -- "/nowhere$1" "$2" "$3" "$4"', "a node does not see {folder}. Put the scan on the cluster's shared"),
        ('set -- "$1" "other" "$3" "$4"', "a node has another folder at {folder}"),
        ('set -- "$1" "$2" "$3" "/nowhere/python"', "a node does not see the interpreter"),
        ('set -- "$1" "$2" "/nowhere/$3" "$4"', "a node cannot write in {folder}"),
    ],
)
def test_what_a_node_does_not_see_is_told(folder: ScanFolder, commands: Path, spoil: str, words: str) -> None:
    text = (commands / "sbatch").read_text()
    command(
        commands,
        "sbatch",
        text.replace("#!/bin/bash\n", "").replace("; shift; bash", f"; shift; {spoil}; bash").strip(),
    )
    with pytest.raises(ScanError) as error:
        check_visible(folder, request())
    assert words.format(folder=folder.path) in str(error.value)
    assert str(error.value).endswith("Nothing was submitted.")
    assert left(folder) == []
    assert not folder.cache.exists()


def test_a_job_that_does_not_start_is_cancelled_and_stops_nothing(folder: ScanFolder, commands: Path) -> None:
    command(commands, "sbatch", "echo '12;cluster'")
    command(commands, "scontrol", "echo JobId=12 JobState=PENDING ExitCode=0:0")
    assert "did not start within 0.3 s" in check_visible(folder, request(), seconds=0.3)
    assert (commands / "cancelled").read_text() == "--quiet 12\n"
    assert left(folder) == []


def test_an_answer_that_a_network_file_system_hides_is_taken_from_slurm(folder: ScanFolder, commands: Path) -> None:
    command(commands, "sbatch", f"echo 0 > {commands}/code; echo 12")
    assert check_visible(folder, request()) == ""


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("JobId=3 JobState=FAILED Reason=None ExitCode=41:0", "41"),
        ("JobId=3 JobState=COMPLETED ExitCode=0:0", "0"),
        ("JobId=3 JobState=RUNNING ExitCode=0:0", ""),
        ("", ""),
    ],
)
def test_the_exit_status_of_a_job_is_read(text: str, code: str) -> None:
    assert ended(text) == code


def test_the_script_takes_its_arguments_for_words(tmp_path: Path) -> None:
    token, answer = tmp_path / "a b$(touch x)", tmp_path / "answer '$y"
    token.write_text("word")
    done = subprocess.run(
        ["bash", "-s", "--", str(token), "word", str(answer), ""], input=SCRIPT, text=True, cwd=tmp_path
    )
    assert done.returncode == 0
    assert answer.read_text() == "word"
    assert not (tmp_path / "x").exists()


def test_the_set_up_lines_may_bring_the_interpreter(folder: ScanFolder, commands: Path) -> None:
    profile = request(python="/nowhere/python", setup=["module load python"])
    assert check_visible(folder, profile) == ""


# ------------------------------------------------------------------------------------------------ the cluster here


def test_the_nodes_here_see_a_shared_folder(slurm: None, folder: ScanFolder) -> None:
    assert check_visible(folder, request(memory_gb_per_process=0.1)) == ""
    assert left(folder) == []
    assert (folder.cache / "slurm_visible.json").exists()


def test_the_nodes_here_do_not_see_the_memory_of_this_machine(slurm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir():
        pytest.skip("needs a folder that is this machine's alone: /dev/shm")
    monkeypatch.setattr(slurm_visible, "ASK_SECONDS", 2.0)
    folder = ScanFolder(memory / f"nnscan-{os.getpid()}" / "x")
    try:
        with pytest.raises(ScanError, match="a node does not see /dev/shm"):
            check_visible(folder, request(memory_gb_per_process=0.1))
    finally:
        folder.path.rmdir()
        folder.path.parent.rmdir()
