"""Bundles become jobs: what is asked of Slurm, how arrays are split, how bundles end and are cancelled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from nnscan import launch_folder
from nnscan.bundles import Bundles
from nnscan.errors import LauncherError
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm import cluster as slurm_cluster
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm import launcher as slurm
from nnscan.launchers.slurm import limits as slurm_limits
from nnscan.launchers.slurm import queue as slurm_queue
from nnscan.launchers.slurm.cluster import Cluster
from nnscan.launchers.slurm.launcher import SlurmLauncher, SlurmSubmission, cancel_jobs, parameters
from nnscan.launchers.slurm.plan import ArrayPlan
from nnscan.launchers.slurm.profile import Profile
from nnscan.launchers.slurm.request import Request
from nnscan.results.folder import ScanFolder

HERE = Path(__file__).parent
ONE = ArrayPlan(((0, 4),), 1, 60)
THREE = ArrayPlan(((0, 2), (2, 3), (3, 4)), 2, 60)
SMALL = {"memory_gb_per_process": 0.1, "time": 2, "signal_seconds": 10}


def launch(folder: Path, **different: Any) -> Launch:
    asked = Launch(
        **{
            "name": launch_folder.new_name(),
            "scan": "small",
            "metric": "m",
            "code": str(HERE),
            "data_root": "/",
            **different,
        }
    )
    (folder / "launches" / asked.name).mkdir(parents=True)
    return asked


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(HERE))
    import slurm_work

    return slurm_work


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask the queue twice a second: tests wait for answers."""
    monkeypatch.setattr(slurm_queue, "POLL_SECONDS", 0.5)
    monkeypatch.setattr(slurm, "FOLDER_SECONDS", 0.1)
    monkeypatch.setattr(slurm_queue, "_answers", {})


@pytest.fixture
def submitted(slurm: None) -> Iterator[list[SlurmSubmission]]:
    """Submissions to be cancelled at the end of a test."""
    submissions: list[SlurmSubmission] = []
    yield submissions
    for submission in submissions:
        submission.cancel()


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of commands before all others, with a srun, which submitit looks for."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    command(bin_, "srun", "exit 1")
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    return bin_


def command(bin_: Path, name: str, lines: str) -> None:
    (bin_ / name).write_text(f"#!/bin/bash\n{lines}\n")
    (bin_ / name).chmod(0o755)


# ------------------------------------------------------------------------------------------------ what is asked


@pytest.mark.parametrize(
    ("profile", "resources", "expected"),
    [
        ({}, {}, {"nodes": 1, "ntasks_per_node": 1, "cpus_per_task": 1, "mem": "1280M", "time": 60}),
        (
            {},
            {"processes": 4, "nodes": 2, "cpus_per_trial": 8},
            {"nodes": 2, "ntasks_per_node": 2, "cpus_per_task": 2, "mem": "2304M"},
        ),
        ({"memory_gb_per_process": 0.0}, {}, {"mem": None}),
        ({"memory_gb_per_process": 0.7}, {"processes": 2, "cpus_per_trial": 2}, {"mem": f"{717 * 2 + 256}M"}),
        ({}, {"gpus_per_trial": 1.0}, {"gpus_per_node": "1", "gres": None}),
        ({"gpus": "a100"}, {"gpus_per_trial": 4.0, "processes": 4, "nodes": 2}, {"gpus_per_node": "a100:2"}),
        ({"shards_per_gpu": 8}, {"gpus_per_trial": 0.3}, {"gres": "shard:3", "gpus_per_node": None}),
        ({}, {}, {"gpus_per_node": None, "gres": None, "partition": None, "account": None, "wckey": None}),
        ({"cpus_per_process": 6}, {"cpus_per_trial": 2}, {"cpus_per_task": 6}),
        (
            {"partition": "p", "account": "a", "qos": "q", "constraint": "c", "exclude": "n1"},
            {},
            {"partition": "p", "account": "a", "qos": "q", "constraint": "c", "exclude": "n1"},
        ),
        (
            {"reservation": "r", "sbatch": {"nice": 3}},
            {},
            {"additional_parameters": {"requeue": True, "reservation": "r", "nice": 3}},
        ),
        ({"signal_seconds": 99}, {}, {"signal_delay_s": 99, "use_srun": False}),
    ],
)
def test_what_one_trial_needs_is_asked(profile: dict, resources: dict, expected: dict, tmp_path: Path) -> None:
    found = parameters(Request(launch(tmp_path, **resources), Profile(**profile)), ONE, [])
    assert {name: found.get(name) for name in expected} == expected


def test_an_array_that_follows_others_waits_for_them(tmp_path: Path) -> None:
    found = parameters(Request(launch(tmp_path), Profile()), ONE, ["12", "13"])
    assert found["dependency"] == "afterany:12:13"


def test_the_script_is_shown_as_it_is_submitted(tmp_path: Path, commands: Path) -> None:
    profile = Profile(
        partition="cpu", setup=["module load x"], sbatch={"mail-type": "END", "exclusive": True}, time="2:00:00"
    )
    asked = SlurmLauncher(tmp_path, launch(tmp_path, import_path=("/s/code", "/s/code/src")), profile)
    folder = tmp_path / "launches" / asked.launch.name / "submitit"
    assert (
        asked.sbatch_text(ArrayPlan(THREE.bundles, 2, 120))
        == f"""#!/bin/bash

# Parameters
#SBATCH --array=0-2%2
#SBATCH --cpus-per-task=1
#SBATCH --exclusive
#SBATCH --job-name=nnscan-small
#SBATCH --mail-type=END
#SBATCH --mem=1280M
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --output={folder}/%A_%a_0_log.out
#SBATCH --partition=cpu
#SBATCH --requeue
#SBATCH --signal=USR2@60
#SBATCH --time=120

# setup
module load x
export PYTHONPATH=/s/code:/s/code/src${{PYTHONPATH:+:$PYTHONPATH}}

# command
export SUBMITIT_EXECUTOR=slurm
{sys.executable} -u -m submitit.core._submit {folder}
"""
    )


def test_a_single_bundle_is_no_array(tmp_path: Path, commands: Path) -> None:
    text = SlurmLauncher(tmp_path, launch(tmp_path), Profile()).sbatch_text(ONE)
    assert "--array" not in text
    assert "/%j_0_log.out" in text


def test_what_a_profile_says_stays_one_word_of_the_script(tmp_path: Path, commands: Path) -> None:
    profile = Profile(constraint="a&b $(touch x) 'c' #d", python="/opt/my python/bin/python")
    text = SlurmLauncher(tmp_path, launch(tmp_path, code="/a b/$(touch y)/'c"), profile).sbatch_text(ONE)
    assert """#SBATCH --constraint='a&b $(touch x) '"'"'c'"'"' #d'""" in text
    assert "'/opt/my python/bin/python' -u -m submitit" in text
    (line,) = (line for line in text.splitlines() if line.startswith("export PYTHONPATH"))
    told = subprocess.run(
        ["bash", "-c", f'{line}; printf %s "$PYTHONPATH"'],
        capture_output=True,
        text=True,
        check=True,
        env={},
        cwd=tmp_path,
    )
    assert told.stdout == "/a b/$(touch y)/'c"
    assert not (tmp_path / "x").exists()


def test_workers_go_before_the_profile_and_the_profile_before_the_room(tmp_path: Path) -> None:
    asked = launch(tmp_path)
    nodes = (slurm_cluster.Nodes(number=2, cpus=10, memory_mb=10**6, gpus={}),)
    cluster = Cluster(partitions=(slurm_cluster.Partition(name="p", default=True, nodes=nodes),))
    profile = Profile(bundles_at_once=7)
    counts = [
        sum(len(plan.bundles) for plan in SlurmLauncher(tmp_path, asked, one, workers, cluster).plan(100))
        for one, workers in ((profile, 3), (profile, 0), (Profile(), 0))
    ]
    assert counts == [3, 7, 20]
    little = [
        sum(len(plan.bundles) for plan in SlurmLauncher(tmp_path, asked, one, workers, cluster).plan(100, 100.0))
        for one, workers in ((profile, 3), (profile, 0), (Profile(), 0))
    ]
    assert little == [3, 7, 4]  # 30 s of work are worth the start of a bundle, unless the user says how many


def test_a_job_that_follows_gets_its_place_under_a_limit(tmp_path: Path) -> None:
    qos = slurm_cluster.Qos(name="normal", submitted=5)
    accounting = slurm_cluster.Accounting(qos=(qos,), enforced=True, limits_enforced=True)
    launcher = SlurmLauncher(tmp_path, launch(tmp_path), Profile(), 9, Cluster(accounting=accounting), further_jobs=1)
    assert sum(len(plan.bundles) for plan in launcher.plan(100)) == 4


# ------------------------------------------------------------------------------------------------ when Slurm refuses


def test_arrays_that_were_taken_before_one_was_refused_stay(tmp_path: Path, commands: Path, work: Any) -> None:
    command(
        commands,
        "sbatch",
        f'[ -e {tmp_path}/once ] && echo "sbatch: error: Batch job submission failed: no more" >&2 && exit 1\n'
        f'touch {tmp_path}/once; echo "Submitted batch job 77"',
    )
    asked = launch(tmp_path)
    launcher = SlurmLauncher(tmp_path, asked, Profile(), 6, Cluster(array_size=2), work=work.tell)
    with pytest.raises(LauncherError, match=r"submission failed: no more \(1 of 3 arrays were submitted and stay\)"):
        launcher.submit(Bundles(asked.name, 6, 6))
    jobs = slurm_jobs.read(ScanFolder(tmp_path), asked.name)
    assert jobs is not None
    assert [array.job for array in jobs.arrays] == ["77", "", ""]
    assert jobs.numbers == ["77"]


def test_a_refusal_of_the_first_says_that_nothing_was_submitted(tmp_path: Path, commands: Path, work: Any) -> None:
    command(commands, "sbatch", 'echo "sbatch: error: Invalid qos" >&2; exit 1')
    asked = launch(tmp_path)
    with pytest.raises(LauncherError, match=r"Invalid qos \(nothing was submitted\)"):
        SlurmLauncher(tmp_path, asked, Profile(), 2, work=work.tell).submit(Bundles(asked.name, 6, 6))


def test_a_cancellation_waits_for_a_controller_that_is_away(
    tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "CANCEL_AGAIN_SECONDS", 0.05)
    away = "Unable to contact slurm controller (connect failure)"
    command(
        commands,
        "scancel",
        f'echo "$*" >> {tmp_path}/calls; [ $(wc -l < {tmp_path}/calls) -lt 3 ] || exit 0; echo "{away}" >&2; exit 1',
    )
    cancel_jobs(["12", "13_4"])
    assert (tmp_path / "calls").read_text() == "--quiet 12 13_4\n" * 3
    (tmp_path / "calls").unlink()
    with pytest.raises(LauncherError, match=r"cannot cancel the jobs 12: .*Unable to contact.*They go on"):
        cancel_jobs(["12"], seconds=0)


@pytest.mark.parametrize("said", ["Invalid job id specified", "Job/step already completing or completed"])
def test_jobs_that_are_over_are_passed_over(said: str, tmp_path: Path, commands: Path) -> None:
    command(commands, "scancel", f'echo "scancel: error: Kill job error on job id 12: {said}" >&2; exit 1')
    cancel_jobs(["12"], seconds=0)


def test_many_jobs_are_cancelled_in_several_commands(tmp_path: Path, commands: Path) -> None:
    command(commands, "scancel", f"echo $# >> {tmp_path}/calls")
    cancel_jobs([f"12_{task}" for task in range(2500)])
    assert (tmp_path / "calls").read_text().split() == ["1001", "1001", "501"]


# ------------------------------------------------------------------------------------------------ on the cluster here


def ran(folder: Path, asked: Launch) -> dict[int, dict]:
    notes = [json.loads(path.read_text()) for path in (folder / "launches" / asked.name).glob("ran-*.json")]
    return {note["start"]: note for note in notes}


def test_bundles_run_as_tasks_of_arrays_that_are_split_and_follow_each_other(
    submitted: list[SlurmSubmission], tmp_path: Path, work: Any, quick: None
) -> None:
    asked = launch(tmp_path, processes=2, cpus_per_trial=2)
    profile = Profile(**SMALL, setup=["export TOLD='by the profile'"], trials_per_bundle=1, bundles_at_once=1)
    launcher = SlurmLauncher(tmp_path, asked, profile, cluster=Cluster(array_size=2), work=work.tell)
    assert [(len(plan.bundles), plan.at_once, plan.after) for plan in launcher.plan(3)] == [(1, 1, -1), (2, 1, 0)]
    submission = launcher.submit(Bundles(asked.name, 3, 1))
    submitted.append(submission)
    assert {outcome.bundle.start: outcome.error for outcome in submission} == {0: "", 1: "", 2: ""}
    notes = ran(tmp_path, asked)
    order = sorted(notes.values(), key=lambda note: note["began"])
    assert [note["start"] for note in order] == [0, 1, 2]
    assert all(before["ended"] <= after["began"] for before, after in pairwise(order))
    told = notes[0]["asked"]
    assert (told["SLURM_JOB_NUM_NODES"], told["SLURM_NTASKS"], told["SLURM_CPUS_PER_TASK"]) == ("1", "2", "1")
    assert told["SLURM_MEM_PER_NODE"] == str(103 * 2 + 256)
    assert told["PYTHONPATH"].startswith(f"{HERE}")
    assert told["TOLD"] == "by the profile"


def test_what_ended_a_bundle_is_its_outcome_and_a_job_that_is_gone_is_told(
    submitted: list[SlurmSubmission], tmp_path: Path, work: Any, quick: None
) -> None:
    asked = launch(tmp_path)
    launcher = SlurmLauncher(tmp_path, asked, Profile(**SMALL, trials_per_bundle=1), 14, work=work.wait)
    submission = launcher.submit(Bundles(asked.name, 2, 1))
    submitted.append(submission)
    jobs = slurm_jobs.bundle_jobs(asked.name, submission.jobs)
    cancel_jobs([jobs[f"{asked.name}-1"]])
    outcomes = iter(submission)
    first = next(outcomes)
    assert first.bundle.start == 1
    assert f"job {jobs[f'{asked.name}-1']} left the queue" in first.error
    assert slurm_jobs.live_bundles(submission.folder, asked.name, slurm_jobs.ask_queue(submission.folder)) == {
        f"{asked.name}-0"
    }
    work.tell(str(tmp_path), asked.name, 0, 1)
    assert [outcome.error for outcome in outcomes] == [""]


def test_a_job_that_can_never_start_is_told_and_not_waited_for(
    submitted: list[SlurmSubmission], tmp_path: Path, work: Any, quick: None
) -> None:
    """As Slurm takes it: nnscan itself refuses such a profile before."""
    short = [one for one in slurm_cluster.read(Profile()).partitions if one.minutes < 1000]
    if not short:
        pytest.skip("this cluster has no partition with a limit of time")
    asked = launch(tmp_path)
    profile = Profile(**{**SMALL, "time": int(short[0].minutes) + 1}, partition=short[0].name)
    launcher = SlurmLauncher(tmp_path, asked, profile, 1, work=work.tell)
    submission = launcher.submit(Bundles(asked.name, 1, 1))
    submitted.append(submission)
    (outcome,) = submission
    assert re.search(r"cannot start \((PartitionTimeLimit|PartitionConfig)\)", outcome.error), (
        outcome.error
    )  # as it is at first


def test_what_a_worker_gave_up_for_is_the_outcome(tmp_path: Path, work: Any) -> None:
    asked = launch(tmp_path)
    bundles = tuple((start, start + 1) for start in (12, 13))
    jobs = slurm_jobs.Jobs(profile={}, arrays=(slurm_jobs.SubmittedArray("7", bundles, array=True),), submitted=0.0)
    slurm_jobs.write(ScanFolder(tmp_path), asked.name, jobs)
    for bundle in bundles:
        work.tell(str(tmp_path), asked.name, *bundle)
    submission = SlurmSubmission(ScanFolder(tmp_path), asked.name)
    assert {outcome.bundle.start: outcome.error for outcome in submission} == {12: "", 13: "it rained"}


def test_a_job_runs_when_all_others_have_ended(
    submitted: list[SlurmSubmission], tmp_path: Path, work: Any, quick: None
) -> None:
    asked = launch(tmp_path)
    launcher = SlurmLauncher(tmp_path, asked, Profile(**SMALL), 2, work=work.tell)
    submission = launcher.submit(Bundles(asked.name, 2, 1))
    submitted.append(submission)
    number = launcher.submit_after([array.job for array in submission.jobs.arrays], work.afterwards)
    assert submission.jobs.retrain_job == number
    deadline = time.monotonic() + 60
    while not (tmp_path / "afterwards.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.1)
    began = json.loads((tmp_path / "afterwards.json").read_text())["began"]
    assert began >= max(note["ended"] for note in ran(tmp_path, asked).values())


def test_what_slurm_would_refuse_is_told_in_its_words(slurm: None, tmp_path: Path) -> None:
    cluster = slurm_cluster.read(Profile())
    asked = launch(tmp_path)

    def told(**profile: Any) -> list[str]:
        return [str(one) for one in SlurmLauncher(tmp_path, asked, Profile(**SMALL, **profile), 1, cluster).problems(3)]

    assert told() == []
    (problem,) = told(constraint="nix")
    assert problem.startswith("profile: Slurm would refuse the jobs (sbatch: ")
    assert "feature" in problem
    (problem,) = told(sbatch={"nix": "1"})
    assert "--nix" in problem
    (problem,) = told(reservation="nix")
    assert "reservation" in problem


def test_2500_bundles_are_submitted_queued_and_cancelled(
    submitted: list[SlurmSubmission], tmp_path: Path, work: Any, quick: None
) -> None:
    profile = Profile(**SMALL, trials_per_bundle=1, bundles_at_once=16, sbatch={"hold": True})
    cluster = slurm_cluster.read(profile)
    asked = launch(tmp_path)
    launcher = SlurmLauncher(tmp_path, asked, profile, cluster=cluster, work=work.wait)
    if any(limit.left < 2500 for limit in slurm_limits.limits(profile, cluster)):
        pytest.skip("this cluster takes no 2,500 jobs of this user")
    started = time.monotonic()
    submission = launcher.submit(Bundles(asked.name, 2500, 16))
    took = time.monotonic() - started
    submitted.append(submission)
    assert len(submission.jobs.arrays) == -(-2500 // cluster.array_size)
    assert took < 30, f"{took:.1f} s for 2,500 bundles"  # 0.6 s on a quiet machine
    queue = slurm_jobs.ask_queue(submission.folder)
    assert len(slurm_jobs.live_bundles(submission.folder, asked.name, queue)) == 2500
    assert {state.state for state in queue.states.values()} == {"PENDING"}
    assert {state.reason for state in queue.states.values()} == {"JobHeldUser"}
    submission.cancel()
    slurm_queue.forget(submission.folder)
    queue = slurm_jobs.ask_queue(submission.folder)
    assert slurm_jobs.live_bundles(submission.folder, asked.name, queue) == set()


def test_a_limit_of_submitted_jobs_makes_fewer_bundles_and_then_is_told(
    submitted: list[SlurmSubmission], tmp_path: Path, work: Any, quick: None
) -> None:
    profile = narrow_qos()
    cluster = slurm_cluster.read(profile)
    limit = min(slurm_limits.limits(profile, cluster), key=lambda limit: limit.left)
    if not limit.left:
        pytest.skip(f"{limit.name} is used up")
    asked = launch(tmp_path)
    launcher = SlurmLauncher(tmp_path, asked, profile, cluster=cluster, work=work.wait)
    assert list(launcher.problems(100)) == []
    submission = launcher.submit(Bundles(asked.name, 100, 1))
    submitted.append(submission)
    assert sum(len(array.bundles) for array in submission.jobs.arrays) == limit.left
    full = SlurmLauncher(tmp_path, asked, profile, cluster=slurm_cluster.read(profile))
    (problem,) = map(str, full.problems(100))
    assert problem.startswith(f"slurm: {limit.name} is {limit.most}, and ")


def narrow_qos() -> Profile:
    """A profile for a QOS that takes few jobs."""
    accounting = slurm_cluster.read(Profile()).accounting
    allowed = {name for one in accounting.associations for name in one.qos} if accounting else set()
    for qos in accounting.qos if accounting else ():
        if qos.name in allowed and qos.submitted and qos.submitted < 100:
            return Profile(**SMALL, qos=qos.name, trials_per_bundle=1, sbatch={"hold": True})
    pytest.skip("this cluster has no QOS that takes few jobs")
