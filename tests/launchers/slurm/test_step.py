"""A step: the command that starts it, and why it died as far as Slurm tells."""

from __future__ import annotations

import math
import shlex
import subprocess
import sys
import time

import pytest

from nnscan.bundles import Bundle
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm import step as slurm_step
from nnscan.launchers.slurm.step import Ending, Logs, Step, cause_of_death, command, take_ending, unfinished
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Writer, close


@pytest.fixture
def step(tmp_path):
    (tmp_path / "launches" / "l").mkdir(parents=True)
    return Step(tmp_path, Bundle("l", 4, 8), "7_1", 2, 3, 1000.5, math.inf)


def launch(**changes):
    return Launch(name="l", scan="s", metric="val_loss", code="/code", data_root="/data", **changes)


def test_a_command_line_tells_all_of_a_step(step):
    assert Step.of(step.arguments()) == step


def test_one_process_is_asked_of_srun_for_each_rank(step):
    asked = command(step, launch(processes=4, nodes=2, cpus_per_trial=8), ["--cpu-bind=cores"])
    own = asked[: asked.index(sys.executable)]
    assert own[:4] == ["srun", "--ntasks=4", "--nodes=2", "--cpus-per-task=2"]
    assert "--kill-on-bad-exit=1" in own
    assert own[-1] == "--cpu-bind=cores"
    assert asked[len(own) :] == [sys.executable, "-m", "nnscan.launchers.slurm.rank", *step.arguments()]


def test_each_life_of_a_job_has_logs_of_its_own(step):
    assert step.log(1).name == "l-4.1.2.log"
    assert Step(step.folder, step.bundle, "7_1", 0, 3, 0.0, 0.0).log(1).name == "l-4.1.log"


def test_the_signs_of_a_folder_are_not_those_of_srun(tmp_path):
    step = Step(tmp_path / "50%t off", Bundle("l", 4, 8), "7", 0, 0, 0.0, 0.0)
    assert f"--output={tmp_path}/50%%t off/logs/l-4.%t.log" in command(step, launch())


def test_how_rank_0_ended_is_told_once(step):
    step.meetings.mkdir()
    step.meeting.write_text("{}")
    Ending(reason="time limit", stopped="a", whole=True).write(step)
    assert take_ending(step) == Ending(reason="time limit", stopped="a", whole=True)
    assert take_ending(step) is None
    assert list(step.meetings.iterdir()) == []


# What Slurm 22.05 said on the cluster, and, of the last two, what others say that limit memory by cgroups.
KILLED = "srun: error: nn1: task 0: Killed"
OVER_LIMIT = "slurmstepd-nn1: error: StepId=7.0 exceeded memory limit (819941376 > 314572800), being killed"
OOM_KILL = "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed."


@pytest.mark.parametrize(
    ("said", "written", "error", "out_of_memory"),
    [
        (["srun: error: nn1: task 0: Aborted (core dumped)"], [], "Aborted (core dumped).", False),
        (["srun: error: nn1: task 0: Exited with exit code 3"], ["words"], "Exited with exit code 3.", False),
        ([KILLED], ["words"], "killed (signal 9), as who needs more memory than there is", False),
        ([KILLED], ["words", OVER_LIMIT], "out of memory: StepId=7.0 exceeded memory limit (8", True),
        (["srun: error: n7: task 0: Out Of Memory"], [OOM_KILL], "out of memory: Detected 1 oom_kill event", True),
        ([], [], "it ended without a word.", False),
        ([KILLED], ["CUDA out of memory, the user's own words"], "killed (signal 9)", False),
    ],
)
def test_the_cause_of_death_is_what_slurm_says(tmp_path, said, written, error, out_of_memory):
    log = tmp_path / "l-4.0.log"
    log.write_text("".join(f"{line}\n" for line in written))
    death = cause_of_death(said, Logs((log,), (0,)))
    assert death.error.startswith(error)
    assert death.error.endswith(f"Its words are in {log}")
    assert death.traceback.splitlines() == [*written, *said]
    assert death.out_of_memory is out_of_memory


def test_of_several_ranks_the_one_that_slurm_names_first_is_told(tmp_path):
    logs = tuple(tmp_path / f"l-4.{rank}.log" for rank in range(3))
    for rank, log in enumerate(logs):
        log.write_text(f"old words\nwords of {rank}\n")
    said = ["srun: error: nn2: task 2: Segmentation fault", "srun: error: nn1: tasks 0-1: Killed"]
    death = cause_of_death(said, Logs(logs, (10, 10, 10)))
    assert death.error == f"rank 2 of 3: Segmentation fault. Its words are in {logs[2]}"
    assert death.traceback.splitlines()[0] == "words of 2"


@pytest.mark.parametrize(
    ("said", "by_itself"),
    [
        (["srun: error: nn2: task 1: Killed", "srun: error: nn1: task 0: Killed"], True),
        (["srun: Job step aborted: Waiting up to 32 seconds.", "srun: error: nn1: task 0: Killed"], False),
        ([], False),
    ],
)
def test_a_step_that_slurm_ended_did_not_die_by_itself(tmp_path, said, by_itself):
    logs = Logs((tmp_path / "l-4.0.log", tmp_path / "l-4.1.log"), (0, 0))
    assert cause_of_death(said, logs).by_itself is by_itself


def test_only_the_last_words_of_a_long_log_are_told(tmp_path):
    log = tmp_path / "l-4.0.log"
    log.write_text("".join(f"line {number}\n" for number in range(100_000)))
    words = Logs((log,), (0,)).words(0)
    assert words[-1] == "line 99999"
    assert len(words) == slurm_step.WORDS_LINES


def test_srun_is_listened_to_until_nobody_holds_its_pipe():
    looks = []
    said = slurm_step.run(["bash", "-c", "echo $OMP_NUM_THREADS; sleep 1.5; echo over >&2"], 3, lambda: looks.append(1))
    assert said == ["3", "over"]
    assert looks


def test_srun_does_not_get_the_signals_of_the_supervisors_tree():
    """As proctrack/linuxproc sends them: to all processes below the script."""
    script = f"from nnscan.launchers.slurm import step; step.run({['sleep', '2.25']!r}, 1, lambda: None)"
    with subprocess.Popen([sys.executable, "-c", script]) as supervisor:
        deadline = time.monotonic() + 10
        while not (found := pids("sleep 2.25")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(found) == 1
        import psutil

        assert found[0] not in [child.pid for child in psutil.Process(supervisor.pid).children(recursive=True)]
        assert supervisor.wait() == 0


def pids(words: str) -> list[int]:
    import psutil

    wanted = shlex.split(words)
    return [process.pid for process in psutil.process_iter(["cmdline"]) if process.info["cmdline"] == wanted]


def test_unfinished_trials_are_those_of_open_journals(tmp_path):
    folder = ScanFolder(tmp_path)
    writer, other = Writer(folder, "l-4", {}), Writer(folder, "l-8", {})
    writer.start({"trial": "a"})
    other.start({"trial": "z"})
    assert unfinished(folder, "l-4") == [("a", True)]
    writer.end({"trial": "a", "status": "completed"})
    assert unfinished(folder, "l-4") == []
    writer.start({"trial": "b"})
    assert unfinished(folder, "l-4") == [("b", False)]
    close(writer.journal, Cause.LOST)
    assert unfinished(folder, "l-4") == []
