"""What squeue says is read, kept for ten seconds for all who ask, and missed without harm."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan.launchers.slurm import command as slurm_command
from nnscan.launchers.slurm import queue as slurm_queue
from nnscan.launchers.slurm.queue import GONE, JobState, alive, ask, expanded, forget, parse, seconds_of
from nnscan.results.folder import ScanFolder

LAUNCH = "20261120-120000-000000-abcdef"
SCRIPT = f"/home/me/scans/x/launches/{LAUNCH}/submitit/.submission_file_12.sh"


def line(job: str, tasks: str, state: str, *, node: str = "", left: str = "1:00", reason: str = "None") -> str:
    return f"{job}|{tasks}|{state}|{node}|{left}|{reason}|{SCRIPT}"


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    (tmp_path / "x" / "launches" / LAUNCH).mkdir(parents=True)
    return ScanFolder(tmp_path / "x")


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A squeue that prints the file `said`, notes its calls in `calls`, and fails where there is a file `away`."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    script = f"""#!/bin/bash
echo "$SLURM_BITSTR_LEN|$SQUEUE_STATES|$*" >> {bin_}/calls
[ -e {bin_}/slow ] && sleep 0.5
[ -e {bin_}/away ] && echo "slurm_load_jobs error: Unable to contact slurm controller (connect failure)" >&2 && exit 1
cat {bin_}/said
"""
    (bin_ / "squeue").write_text(script)
    (bin_ / "squeue").chmod(0o755)
    (bin_ / "said").write_text("")
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    return bin_


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_queue, "_answers", {})


def calls(squeue: Path) -> list[str]:
    return (squeue / "calls").read_text().splitlines() if (squeue / "calls").exists() else []


def aged(folder: ScanFolder, seconds: float) -> None:
    """Let what is kept be so much older."""
    content = json.loads(folder.queue.read_bytes())
    content["claimed"] -= seconds
    if content["asked"]:
        content["asked"] -= seconds
    folder.queue.write_text(json.dumps(content))
    slurm_queue._answers.clear()


# ------------------------------------------------------------------------------------------------ reading


@pytest.mark.parametrize(
    ("tasks", "numbers"),
    [
        ("N/A", []),
        ("", []),
        ("7", [7]),
        ("4-9,12%3", [4, 5, 6, 7, 8, 9, 12]),
        ("0-10:5%2", [0, 5, 10]),
        ("1,3,5-6", [1, 3, 5, 6]),
    ],
)
def test_ranges_of_tasks_are_expanded(tasks: str, numbers: list[int]) -> None:
    assert list(expanded(tasks)) == numbers


@given(st.sets(st.integers(0, 200), min_size=1), st.integers(1, 50))
def test_any_set_of_tasks_is_expanded(numbers: set[int], at_once: int) -> None:
    assert set(expanded(",".join(map(str, sorted(numbers))) + f"%{at_once}")) == numbers


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00", 0),
        ("59:57", 3597),
        ("1:00:00", 3600),
        ("2-03:04:05", 183845),
        ("UNLIMITED", None),
        ("INVALID", None),
        ("NOT_SET", None),
        ("infinite", None),
        ("", None),
    ],
)
def test_times_of_squeue_are_read(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_states_of_tasks_and_jobs_are_read() -> None:
    states, launches = parse(
        [
            line("12", "2-3,5%1", "PENDING", reason="JobArrayTaskLimit"),
            line("12", "1", "RUNNING", node="nn1", left="59:00"),
            line("14", "N/A", "PENDING", reason="ReqNodeNotAvail, UnavailableNodes:nn1", left="UNLIMITED"),
        ]
    )
    waits = JobState("PENDING", "JobArrayTaskLimit", "", 60)
    assert states == {
        "12_2": waits,
        "12_3": waits,
        "12_5": waits,
        "12_1": JobState("RUNNING", "", "nn1", 3540),
        "14": JobState("PENDING", "ReqNodeNotAvail, UnavailableNodes:nn1", "", None),
    }
    assert launches == {"12": LAUNCH, "14": LAUNCH}


@pytest.mark.parametrize(
    "state", ["PENDING", "RUNNING", "COMPLETING", "REQUEUED", "NODE_FAIL", "PREEMPTED", "SUSPENDED", "NEW"]
)
def test_a_job_that_may_run_again_is_alive(state: str) -> None:
    assert alive(JobState(state))


@pytest.mark.parametrize(
    "state", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", ""]
)
def test_a_job_that_ended_is_not(state: str) -> None:
    assert not alive(JobState(state))


# ------------------------------------------------------------------------------------------------ asking


def test_jobs_of_other_scans_and_of_no_scan_are_left_out(folder: ScanFolder, squeue: Path) -> None:
    other = line("3", "N/A", "RUNNING").replace(LAUNCH, "20200101-000000-000000-000000")
    (squeue / "said").write_text(
        "\n".join([line("1", "0-1", "PENDING"), other, "4|N/A|RUNNING|nn1|1:00|None|/home/me/run.sh"])
    )
    queue = ask(folder, [0])
    assert set(queue.states) == {"1_0", "1_1"}
    assert queue.state("3") == GONE
    assert queue.launches == {"1": LAUNCH}


def test_nobody_is_asked_twice_in_ten_seconds(folder: ScanFolder, squeue: Path) -> None:
    (squeue / "said").write_text(line("1", "N/A", "RUNNING"))
    first = ask(folder, [0])
    (squeue / "said").write_text("")
    for _ in range(5):
        slurm_queue._answers.clear()  # as another process
        assert ask(folder, [0]) == first
    assert len(calls(squeue)) == 1
    aged(folder, slurm_queue.POLL_SECONDS + 1)
    assert ask(folder, [0]).states == {}
    assert len(calls(squeue)) == 2


def test_without_users_nobody_is_asked(folder: ScanFolder, squeue: Path) -> None:
    assert ask(folder, []).states == {}
    assert calls(squeue) == []


def test_the_command_asks_for_all_states_of_the_users_whatever_the_environment_says(
    folder: ScanFolder, squeue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    ask(folder, [7, 3, 7])
    (call,) = calls(squeue)
    whole, states, command = call.split("|", 2)
    assert (whole, states) == ("0", "")
    assert "--states=all" in command
    assert "--user=3,7" in command


def test_an_error_is_told_with_the_states_before_it_and_kept_as_long(folder: ScanFolder, squeue: Path) -> None:
    (squeue / "said").write_text(line("1", "N/A", "RUNNING"))
    before = ask(folder, [0])
    aged(folder, slurm_queue.POLL_SECONDS + 1)
    (squeue / "away").touch()
    for _ in range(3):
        slurm_queue._answers.clear()
        queue = ask(folder, [0])
        assert "Unable to contact slurm controller" in queue.error
        assert queue.states == before.states
        assert queue.asked == pytest.approx(before.asked - slurm_queue.POLL_SECONDS - 1)
    assert len(calls(squeue)) == 2
    aged(folder, slurm_queue.POLL_SECONDS + 1)
    (squeue / "away").unlink()
    assert ask(folder, [0]).error == ""


def test_a_missing_squeue_is_an_error_told(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    queue = ask(folder, [0])
    assert queue.error == "squeue: there is no such command on the PATH"
    assert queue.asked == 0


def test_a_squeue_that_hangs_is_given_up(folder: ScanFolder, squeue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (squeue / "squeue").write_text("#!/bin/bash\nexec sleep 30\n")
    monkeypatch.setattr(slurm_command.run, "__kwdefaults__", {"given": "", "seconds": 0.2})
    started = time.monotonic()
    assert ask(folder, [0]).error == "squeue: no answer within 0.2 s"
    assert time.monotonic() - started < 5


def test_who_comes_while_another_asks_gets_its_answer(folder: ScanFolder, squeue: Path) -> None:
    (squeue / "slow").touch()
    (squeue / "said").write_text(line("1", "N/A", "RUNNING"))
    found = []
    threads = [threading.Thread(target=lambda: found.append(ask(folder, [0]))) for _ in range(3)]
    for thread in threads:
        thread.start()
        time.sleep(0.1)
    for thread in threads:
        thread.join()
    assert [set(queue.states) for queue in found] == [{"1"}] * 3
    assert len(calls(squeue)) == 1


def test_who_asks_after_a_submission_gets_a_new_answer(folder: ScanFolder, squeue: Path) -> None:
    ask(folder, [0])
    (squeue / "said").write_text(line("1", "N/A", "PENDING"))
    forget(folder)
    assert set(ask(folder, [0]).states) == {"1"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"claimed": "x"}', b'{"lines": 3, "claimed": 0}', b"\xff"])
def test_a_damaged_file_is_asked_anew(folder: ScanFolder, squeue: Path, content: bytes) -> None:
    folder.queue.write_bytes(content)
    (squeue / "said").write_text(line("1", "N/A", "PENDING"))
    assert set(ask(folder, [0]).states) == {"1"}


def test_where_the_folder_cannot_be_written_this_process_keeps_the_answer(
    folder: ScanFolder, squeue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, content: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(slurm_queue, "write_atomically", refuse)
    (squeue / "said").write_text(line("1", "N/A", "PENDING"))
    assert set(ask(folder, [0]).states) == {"1"}
    assert set(ask(folder, [0]).states) == {"1"}
    assert len(calls(squeue)) == 1
    assert not folder.queue.exists()


def test_a_clock_that_was_set_back_stops_nobody(folder: ScanFolder, squeue: Path) -> None:
    ask(folder, [0])
    aged(folder, -3600)
    ask(folder, [0])
    assert len(calls(squeue)) == 2


def test_a_variable_of_an_allocation_changes_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    kept = slurm_command.environment({"PATH": "/bin", "SLURM_JOB_ID": "3", "SBATCH_QOS": "x", "SLURM_CONF": "/c"})
    assert kept == {"PATH": "/bin", "SLURM_CONF": "/c", "SLURM_BITSTR_LEN": "0"}


def test_the_environment_is_whole_again_after_a_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    monkeypatch.setenv("SBATCH_QOS", "x")
    before = dict(os.environ)
    with slurm_command.clean_environment():
        assert "SLURM_JOB_ID" not in os.environ
        assert "SBATCH_QOS" not in os.environ
    assert dict(os.environ) == before
