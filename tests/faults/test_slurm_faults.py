"""What befalls jobs of a real Slurm: signals, preemption, dead nodes, memory limits, time that is too short.

The cases mostly wait, so all that are asked for run side by side; each test then takes its own.
"""

from __future__ import annotations

import os
import platform
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for_all
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from scans import TESTS, differences
from slurm_bench import ROOT, SUBMITTED, Job, SlurmBench, slurm, wait_until

from nnscan import toml
from nnscan.results.folder import ScanFolder, write_atomically
from nnscan.results.journal import journals, read_rows
from nnscan.results.store import read_epochs, read_trials
from nnscan.scan import Scan, read

pytestmark = [pytest.mark.usefixtures("slurm"), pytest.mark.timeout(900)]

FAULT = os.environ.get("NNSCAN_TEST_SLURM_FAULT", "")
_breaking = threading.Lock()


def functions(name: str, rates: list[float], *, epochs: int = 1, **arguments: Any) -> Scan:
    """A scan of a function in slurm_functions.py."""
    given = "".join(f"arguments.{key} = {toml.value(value)}\n" for key, value in arguments.items())
    return read(
        f"""
        name = "{name}"
        [validation]
        holdout = 0.2
        [training]
        function = "slurm_functions:{name}"
        metrics = ["val_loss"]
        epochs = {epochs}
        {given}
        [[grid]]
        family = "Own"
        training.arguments.rate = {toml.value(rates)}
        """
    )


NETWORKS = """
name = "networks"
[data]
name = "digits"
[validation]
folds = 2
[training]
epochs = 20
batch_size = 128
[model]
name = "slurm_functions:slow_mlp"
[optimizer]
name = "adam"
"""
"""Two trials of 120 steps; with dropout, so that a checkpoint must hold the states of the generators."""


def networks(path: Path, **changes: Any) -> SlurmBench:
    return SlurmBench(read(NETWORKS), path, **{"trains_networks": True, **changes})


def of_functions(path: Path, scan: Scan, **changes: Any) -> SlurmBench:
    return SlurmBench(scan, path, **{"trains_networks": False, **changes})


def pausing(bench: SlurmBench, seconds: float) -> str:
    """The option of sbatch that lets a network pause at each batch, until `hurry`."""
    write_atomically(pause_file(bench), str(seconds).encode())
    return f"--export=ALL,NNSCAN_TEST_PAUSE={pause_file(bench)}"


def pause_file(bench: SlurmBench) -> Path:
    return bench.folder.path.parent / "pause"


def hurry(bench: SlurmBench) -> None:
    write_atomically(pause_file(bench), b"0")


def submit(bench: SlurmBench, *options: str, **asked: Any) -> Job:
    """Submit the bundle of `bench` to the nodes that no case breaks."""
    return bench.submit(f"--exclude={','.join(slurm_nodes()[-2:])}", *options, **asked)


# ---- looking ----


def rows(bench: SlurmBench) -> list[dict[str, Any]]:
    """Rows of all open journals of a launch, in the order of their writing."""
    found = []
    for journal in journals(bench.folder):
        try:
            found += read_rows(journal.path)[0]
        except FileNotFoundError:
            continue
    return found


def epochs(bench: SlurmBench) -> int:
    """How many epochs stand in open journals."""
    return sum(row["row"] == "epoch" for row in rows(bench))


def notes(bench: SlurmBench) -> list[str]:
    path = bench.folder.path.parent / "notes"
    return path.read_text().splitlines() if path.exists() else []


def in_epoch(job: Job, number: int) -> None:
    """Wait until a worker that runs has written so many epochs."""
    job.wait_for(lambda: epochs(job.bench) >= number, f"epoch {number}")


def checkpoints(bench: SlurmBench) -> list[Path]:
    return list(bench.folder.checkpoints.glob("*.pt"))


def finished(job: Job) -> None:
    """Wait for the end of a job that runs its bundle to the end."""
    job.wait()
    assert job.bench.error == "", job.words
    assert journals(job.bench.folder) == []


def slurm_nodes() -> list[str]:
    """Names of the nodes; the last two may be broken, and preempted."""
    return sorted(set(slurm("sinfo", "--noheader", "--Node", "--format=%N").split()))


def ranks_of(bench: SlurmBench, restart: int) -> list[psutil.Process]:
    """Processes that train in a life of the bundle's job; on nodes that are namespaces of this machine, as here."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "nnscan.launchers.slurm.rank" in words and words[0] != "srun" and "-m" in words[:2]:
            folder, _, _, _, _, life = words[words.index("nnscan.launchers.slurm.rank") + 1 :][:6]
            if folder == str(bench.folder.path) and int(life) == restart:
                found.append(process)
    return found


def files_of(process: psutil.Process, bench: SlurmBench) -> set[str]:
    """Files of the scan that a process holds open."""
    return {file.path for file in process.open_files() if file.path.startswith(str(bench.folder.path))}


def readings_while(bench: SlurmBench, condition: Callable[[], bool]) -> list[list[str]]:
    """Keys of all trials that have a row, read again and again."""
    found = []
    while condition():
        found.append(read_trials(bench.folder, ["trial"])["trial"].to_pylist())
        time.sleep(0.1)
    return found


# ---- the cases ----

CASES: dict[str, Callable[[Path], None]] = {}
NEED_FAULT: set[str] = set()
NODES = 4


def case(function: Callable[[Path], None]) -> Callable[[Path], None]:
    CASES[function.__name__] = function
    return function


_undisturbed: dict[str, ScanFolder] = {}
_training = threading.Lock()


def same_as_undisturbed(bench: SlurmBench) -> None:
    """Check that networks came out bit by bit as without any disturbance, each once, at the first attempt."""
    with _training:
        if not _undisturbed:
            alone = networks(bench.folder.path.parent / "undisturbed")
            alone.run()
            _undisturbed["networks"] = alone.folder
    assert differences(bench.folder, _undisturbed["networks"]) == []
    assert read_trials(bench.folder, ["attempt"])["attempt"].to_pylist() == [1, 1]
    assert checkpoints(bench) == []


@case
def a_signal_before_the_end_saves_and_queues_the_job_again(path: Path) -> None:
    bench = networks(path)
    job = submit(bench, pausing(bench, 0.1))
    in_epoch(job, 5)
    slurm("scancel", "--signal=USR2", job.number)
    job.wait_for(lambda: checkpoints(bench), "a checkpoint")
    hurry(bench)
    finished(job)
    assert job.restarts == 1
    same_as_undisturbed(bench)


@case
def a_real_limit_of_a_minute_is_gone_on_from(path: Path) -> None:
    bench = networks(path)
    job = submit(bench, pausing(bench, 0.4), minutes=1)
    job.wait_for(lambda: job.restarts == 1, "its time was over")
    hurry(bench)
    finished(job)
    assert job.restarts == 1
    same_as_undisturbed(bench)


@case
def interruptions_are_no_attempts(path: Path) -> None:
    bench = networks(path)
    job = submit(bench, pausing(bench, 0.25))
    for number in range(1, 5):
        in_epoch(job, 4 * number)
        slurm("scontrol", "requeue", job.number)
        job.wait_for(lambda number=number: job.restarts == number, f"restart {number}")
    hurry(bench)
    finished(job)
    assert job.restarts == 4
    same_as_undisturbed(bench)


@case
def a_preempted_job_saves_and_goes_on(path: Path) -> None:
    node = slurm_nodes()[-2]
    bench = networks(path)
    whole = (f"--nodelist={node}", "--cpus-per-task=4")
    job = bench.submit(pausing(bench, 0.15), "--partition=scavenge", *whole)
    in_epoch(job, 5)
    slurm("sbatch", "--partition=main", *whole, "--output=/dev/null", "--wrap=sleep 2")
    job.wait_for(lambda: checkpoints(bench), "a checkpoint")
    hurry(bench)
    finished(job)
    assert job.restarts >= 1  # others may want the node, too
    same_as_undisturbed(bench)


@case
def a_trial_that_hears_nothing_is_not_lost_by_a_signal(path: Path) -> None:
    bench = of_functions(path, functions("deaf", [0.5], seconds=600.0, folder=str(path)))
    job = submit(bench)
    job.wait_for(lambda: notes(bench), "its first attempt")
    slurm("scontrol", "requeue", job.number)
    wait_until(lambda: any(row["row"] == "ending" for row in rows(bench)), 10, "the row `ending`, written at once")
    finished(job)
    assert notes(bench) == ["begun", "begun"]
    assert bench.rows("status", "attempt") == [("completed", 1)]


@case
def a_cancelled_job_stays_away_and_its_bundle_can_be_gone_on_with(path: Path) -> None:
    bench = of_functions(path, functions("wait", [0.5, 1.0, 1.5], epochs=10, seconds=0.2, folder=str(path)))
    job = submit(bench)
    job.wait_for(lambda: len(notes(bench)) == 2, "the second trial")
    slurm("scancel", job.number)
    job.wait()
    assert bench.error is None
    assert [row for (row,) in bench.rows("status")] == ["completed"]
    finished(submit(bench))
    assert bench.rows("status", "attempt") == [("completed", 1)] * 3
    assert [note.split()[0] for note in notes(bench)] == ["0.5", "1.0", "1.0", "1.5"]


@case
def a_trial_over_the_memory_limit_fails_and_the_others_go_on(path: Path) -> None:
    bench = of_functions(path, functions("hungry", [0.25, 2.0, 0.5, 0.75], folder=str(path)))
    finished(submit(bench, memory_mb=400))
    assert [row[0] for row in bench.rows("status")] == ["completed", "failed", "completed", "completed"]
    failure, attempt, error = bench.rows("failure", "attempt", "error")[1]
    assert (failure, attempt) == ("out of memory", 2)
    assert "memory limit" in error
    assert f"{bench.folder.logs}/{bench.bundle.name}.0.log" in error
    assert notes(bench) == ["0.25", "2.0", "2.0", "0.5", "0.75"]


@case
def a_crash_in_c_is_a_lost_trial_with_its_cause(path: Path) -> None:
    bench = of_functions(path, functions("crash", [0.5, 2.0, 1.0, 3.0, 4.0], folder=str(path)))
    finished(submit(bench))
    assert [row[0] for row in bench.rows("status")] == ["completed", "failed", "completed", "failed", "completed"]
    (_, aborted, _, at_a_wrong_place, _) = bench.rows("failure", "attempt", "error", "traceback")
    assert aborted[:2] == at_a_wrong_place[:2] == ("lost", 3)
    assert "Aborted" in aborted[2]
    assert "Segmentation fault" in at_a_wrong_place[2]
    assert "about to train at 2.0" in aborted[3]
    assert notes(bench) == ["0.5", "2.0", "2.0", "2.0", "1.0", "3.0", "3.0", "3.0", "4.0"]


@case
def a_worker_that_cannot_start_is_given_up(path: Path) -> None:
    bench = of_functions(path, functions("crash", [0.5], folder=str(path)))
    bench.profile(srun=["--export=ALL,PYTHONHOME=/nowhere"])  # Python finds no library of its own there
    job = submit(bench)
    job.wait()
    assert bench.error and bench.error.startswith("4 steps in a row brought no trial on: Exited with exit code 1.")
    assert f"{bench.folder.logs}/{bench.bundle.name}.0.log" in bench.error
    assert "No module named" in bench.error
    assert bench.error in job.words
    assert bench.rows("status") == []


@case
def another_environment_than_that_which_launched_runs_nothing(path: Path) -> None:
    provenance = {"nnscan": "0", "torch": "1.0", "python": platform.python_version()}
    bench = of_functions(path, functions("crash", [0.5], folder=str(path)), provenance=provenance)
    job = submit(bench)
    job.wait()
    assert bench.error and "(launched with 0), torch" in bench.error and "(launched with 1.0)" in bench.error
    assert bench.rows("status") == []
    assert notes(bench) == []


@case
def a_scan_folder_that_the_node_does_not_see_is_told(path: Path) -> None:
    bench = of_functions(path, functions("crash", [0.5], folder=str(path)))
    launch = bench.folder.launches / bench.bundle.launch
    launch.rename(path / "elsewhere")
    job = submit(bench)
    job.wait()
    assert f"does not see {launch}/launch.json" in job.words
    assert "ExitCode=1:0" in slurm("scontrol", "show", "job", job.number)


@case
def many_short_trials_start_only_where_they_fit(path: Path) -> None:
    rates = [number / 1024 for number in range(1, 301)]
    bench = of_functions(path, functions("wait", rates, seconds=0.18, folder=str(path)))
    job = submit(bench, minutes=1)
    finished(job)
    assert job.restarts >= 1
    assert bench.rows("status", "attempt") == [("completed", 1)] * 300
    begun = [note.split()[0] for note in notes(bench)]
    assert len(begun) - len(set(begun)) <= job.restarts, "a signal that came early ended more than the running trial"


@case
def what_never_ends_within_the_limit_is_told(path: Path) -> None:
    bench = of_functions(path, functions("wait", [0.5, 0.25], epochs=1000, seconds=0.5, folder=str(path)))
    job = submit(bench, minutes=1)
    finished(job)
    for status, failure, error in bench.rows("status", "failure", "error"):
        assert (status, failure) == ("failed", "config")
        assert "got no further in 2 whole jobs" in error
    assert [note.split()[0] for note in notes(bench)] == ["0.5", "0.5", "0.25", "0.25"]


@case
def what_never_returns_is_queued_again_in_time_and_told(path: Path) -> None:
    bench = of_functions(path, functions("wait", [0.5], seconds=1000.0, folder=str(path)))
    job = submit(bench, minutes=1)
    finished(job)
    ((status, error),) = bench.rows("status", "error")
    assert status == "failed"
    assert "got no further in 2 whole jobs" in error


# ---- trials of several processes ----

ON_TWO_NODES = {"processes": 2, "nodes": 2, "cpus_per_trial": 2}


@case
def ranks_on_two_nodes_train_as_one_process_does(path: Path) -> None:
    scan = read(NETWORKS.replace("slow_mlp", "plain_mlp"))
    together, alone = SlurmBench(scan, path, trains_networks=True, **ON_TWO_NODES), SlurmBench(scan, path / "alone")
    finished(submit(together, "--nodes=2"))
    alone.run()
    assert together.rows("status", "processes") == [("completed", 2)] * 2
    losses, expected = (epoch_table(bench, "train_loss", "val_loss") for bench in (together, alone))
    assert len(losses) == 42
    assert losses == {epoch: pytest.approx(row, abs=1e-4) for epoch, row in expected.items()}


def epoch_table(bench: SlurmBench, *columns: str) -> dict[tuple[str, int], list[float]]:
    """These columns of epochs/, by trial and epoch; what an untrained network has not is 0."""
    table = read_epochs(bench.folder, columns=["trial", "epoch", *columns]).to_pylist()
    return {(row["trial"], row["epoch"]): [row[name] or 0.0 for name in columns] for row in table}


@case
def ranks_that_are_queued_again_go_on_bit_by_bit(path: Path) -> None:
    disturbed, undisturbed = (networks(path / name, **ON_TWO_NODES) for name in ("disturbed", "undisturbed"))
    other = submit(undisturbed, "--nodes=2")
    job = submit(disturbed, pausing(disturbed, 0.1), "--nodes=2")
    in_epoch(job, 5)
    slurm("scancel", "--signal=USR2", job.number)
    job.wait_for(lambda: checkpoints(disturbed), "a checkpoint")
    hurry(disturbed)
    finished(job)
    finished(other)
    assert job.restarts == 1
    assert differences(disturbed.folder, undisturbed.folder) == []
    assert disturbed.rows("attempt") == [(1,), (1,)]


@case
def a_rank_that_is_killed_ends_the_others_and_the_next_attempt_goes_on(path: Path) -> None:
    bench = networks(path, **ON_TWO_NODES)
    job = submit(bench, pausing(bench, 0.1), "--nodes=2")
    in_epoch(job, 5)
    ranks = ranks_of(bench, 0)
    (last,) = (rank for rank in ranks if rank.environ()["SLURM_PROCID"] == "1")
    last.kill()
    _, alive = psutil.wait_procs(ranks, 10)
    assert len(ranks) == 2
    assert alive == []
    hurry(bench)
    finished(job)
    assert bench.rows("status", "attempt") == [("completed", 2), ("completed", 1)]
    assert "task 1: Killed" in job.words


@case
def a_rank_that_does_not_come_costs_an_attempt_and_the_next_goes_on(path: Path) -> None:
    bench = networks(path, **ON_TWO_NODES)
    (path / "sitecustomize.py").write_text(SHORT_TIMES)
    job = submit(bench, "--nodes=2", python_path=f"{path}:{ROOT}")
    job.wait_for(lambda: len(ranks_of(bench, 0)) == 2, "both ranks")
    (last,) = (rank for rank in ranks_of(bench, 0) if rank.environ()["SLURM_PROCID"] == "1")
    last.suspend()
    job.wait_for(lambda: bench.rows("status"), "a lost trial")
    ((failure, attempt, error), *_) = bench.rows("failure", "attempt", "error")
    assert (failure, attempt) == ("lost", 1)
    assert re.search(r"rank 1 of 2 did not come to [\d.]+:\d+ in 10 s", error), error
    finished(job)
    assert bench.rows("status", "attempt") == [("completed", 2), ("completed", 1)]


SHORT_TIMES = """
from nnscan.ranks import meeting
meeting.TIMES = meeting.Times(rendezvous=10.0)
"""
"""Python imports it in each process of a job: ranks wait for each other as long as tests can."""


# ---- nodes that go ----


def lose(node: str) -> None:
    """Let Slurm know at once that a node is gone; by itself it finds out after SlurmdTimeout."""
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")


def on_last_node() -> tuple[str, str]:
    """The last node, and the option of sbatch that leads there."""
    *others, node = slurm_nodes()
    return node, f"--exclude={','.join(others)}"


def send_elsewhere(job: Job, node: str) -> None:
    job.wait_for(lambda: job.state == "PENDING", "it was queued again")
    slurm("scontrol", "update", f"JobId={job.number}", f"ExcNodeList={node}")


def fault(*arguments: str) -> str:
    return subprocess.run([FAULT, *arguments], check=True, capture_output=True, text=True, timeout=120).stdout


@contextmanager
def breaking() -> Iterator[None]:
    """Let a node be broken in this block, by one case at a time."""
    with _breaking:
        try:
            yield
        finally:
            fault("heal")


def breaks_a_node(function: Callable[[Path], None]) -> Callable[[Path], None]:
    NEED_FAULT.add(function.__name__)
    return case(function)


@breaks_a_node
def a_trial_on_a_node_that_dies_is_gone_on_with_elsewhere(path: Path) -> None:
    node, there = on_last_node()
    bench = networks(path, checkpoint_epochs=1)
    with breaking():
        job = bench.submit(pausing(bench, 0.1), there)
        in_epoch(job, 5)
        fault("crash", node)
        lose(node)
        send_elsewhere(job, node)
    hurry(bench)
    finished(job)
    assert [host == node for (host,) in bench.rows("host")] == [False, False]
    same_as_undisturbed(bench)


@breaks_a_node
def two_copies_of_a_job_share_no_file_and_leave_single_rows(path: Path) -> None:
    node, there = on_last_node()
    rates = [number / 8 for number in range(1, 9)]
    bench = of_functions(path, functions("wait", rates, epochs=200, seconds=0.5, folder=str(path)))
    with breaking():
        job = bench.submit(there)
        job.wait_for(lambda: notes(bench), "the first trial")
        fault("cut", node)
        lose(node)
        send_elsewhere(job, node)
        job.wait_for(lambda: any(node not in note for note in notes(bench)), "the second copy")
        (old,), (new,) = ranks_of(bench, 0), ranks_of(bench, 1)
        assert old.environ()["SLURMD_NODENAME"] == node != new.environ()["SLURMD_NODENAME"]
        assert files_of(old, bench) & files_of(new, bench) == set()
        (path / "hurry").touch()
        readings = readings_while(bench, old.is_running)
        begun = [note for note in notes(bench) if node in note]
        fault("join", node)
        finished(job)
    assert all(len(reading) == len(set(reading)) for reading in readings)
    assert [note for note in notes(bench) if node in note] == begun == [f"{rates[0]} {node}"]
    assert bench.rows("status", "attempt") == [("completed", 1)] * len(rates)


# ---- all of them ----


@pytest.fixture(scope="module")
def started(request: pytest.FixtureRequest, slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The cases that are asked for, by name, each on its way."""
    if len(slurm_nodes()) < NODES:
        pytest.skip(f"needs {NODES} nodes: two that stay, one to preempt, one to break")
    here_too = (item for item in request.session.items if item.path == request.path and hasattr(item, "callspec"))
    names = [item.callspec.params["name"] for item in here_too]
    here = Path.cwd()
    os.chdir(TESTS)  # users' functions are imported from it
    root = tmp_path_factory.mktemp("jobs")
    with ThreadPoolExecutor(len(CASES)) as pool:
        yield {name: pool.submit(CASES[name], root / name) for name in names if name not in NEED_FAULT or FAULT}
        for job in SUBMITTED:
            job.cancel()
    os.chdir(here)


@pytest.mark.parametrize("name", list(CASES))
def test_fault(name: str, started: dict[str, Future[None]]) -> None:
    if name in NEED_FAULT and not FAULT:
        pytest.skip("NNSCAN_TEST_SLURM_FAULT names no command that takes nodes away")
    started[name].result()


@pytest.mark.skipif(not FAULT, reason="NNSCAN_TEST_SLURM_FAULT names no command that takes the controller away")
def test_a_controller_that_is_away_is_waited_for(started: dict[str, Future[None]], tmp_path: Path) -> None:
    """Behind the others, which cannot do without it."""
    wait_for_all(started.values())
    bench = networks(tmp_path)
    job = submit(bench, pausing(bench, 0.1))
    in_epoch(job, 5)
    (rank,) = ranks_of(bench, 0)
    fault("stop", "slurmctld")
    try:
        rank.send_signal(signal.SIGUSR2)
        wait_until(lambda: "asking Slurm again: scontrol: " in job.words, 120, "a question to nobody")
        assert not rank.is_running()
    finally:
        fault("restart", "slurmctld")
    hurry(bench)
    finished(job)
    assert job.restarts == 1
    same_as_undisturbed(bench)
