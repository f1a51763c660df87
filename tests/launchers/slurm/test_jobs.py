"""Which jobs run which bundles: kept in a file, and matched with what the queue says."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from nnscan.errors import StoreError
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.jobs import (
    Jobs,
    SubmittedArray,
    ask_queue,
    bundle_jobs,
    ended_bundles,
    live_bundles,
    numbered,
    with_number,
)
from nnscan.launchers.slurm.queue import JobState, Queue
from nnscan.results.folder import ScanFolder

LAUNCH = "20261120-120000-000000-abcdef"
JOBS = Jobs(
    profile={"partition": "cpu", "sbatch": {"nice": 3}},
    arrays=(
        SubmittedArray("12", ((0, 3), (3, 6), (6, 10)), array=True),
        SubmittedArray("13", ((10, 11),), array=False),
    ),
    submitted=1000.0,
    uid=7,
)
RUNNING, PENDING, ENDED = JobState("RUNNING"), JobState("PENDING"), JobState("COMPLETED")


def name(start: int) -> str:
    return f"{LAUNCH}-{start}"


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    return ScanFolder(tmp_path / "x")


def end(folder: ScanFolder, start: int, content: str = '{"error": ""}') -> None:
    path = folder.launches / LAUNCH / "bundles" / f"{start}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def queue(**different: JobState) -> Queue:
    states = {"12_0": RUNNING, "12_1": PENDING, "12_2": PENDING, "13": PENDING}
    states |= {job.removeprefix("j"): state for job, state in different.items()}
    return Queue(states, asked=2000.0, launches={"12": LAUNCH, "13": LAUNCH})


def test_what_is_written_is_read(folder: ScanFolder) -> None:
    assert slurm_jobs.read(folder, LAUNCH) is None
    assert slurm_jobs.read_all(folder) == {}
    slurm_jobs.write(folder, LAUNCH, JOBS)
    assert slurm_jobs.read(folder, LAUNCH) == JOBS
    assert slurm_jobs.read_all(folder) == {LAUNCH: JOBS}


def test_the_user_is_the_one_who_submits(folder: ScanFolder) -> None:
    slurm_jobs.write(folder, LAUNCH, Jobs(profile={}, arrays=(), submitted=1.0))
    read = slurm_jobs.read(folder, LAUNCH)
    assert read is not None
    assert read.uid == os.getuid()


@pytest.mark.parametrize("content", [b"", b"{}", b'{"arrays": 3}', b'{"arrays": [], "new": 1}', b"\xff", b"[]"])
def test_a_damaged_file_is_told(folder: ScanFolder, content: bytes) -> None:
    (folder.launches / LAUNCH).mkdir(parents=True)
    (folder.launches / LAUNCH / "jobs.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"cannot read .*jobs\.json"):
        slurm_jobs.read(folder, LAUNCH)


def test_each_bundle_has_its_job() -> None:
    assert bundle_jobs(LAUNCH, JOBS) == {name(0): "12_0", name(3): "12_1", name(6): "12_2", name(10): "13"}
    unnumbered = replace(JOBS, arrays=(replace(JOBS.arrays[0], job=""), JOBS.arrays[1]))
    assert bundle_jobs(LAUNCH, unnumbered) == {name(0): "", name(3): "", name(6): "", name(10): "13"}
    assert replace(JOBS, retrain_job="14").numbers == ["12", "13", "14"]


def test_what_ended_a_bundle_is_read(folder: ScanFolder) -> None:
    assert ended_bundles(folder, LAUNCH) == {}
    end(folder, 0)
    end(folder, 3, '{"error": "python differs"}')
    end(folder, 6, "")  # seen while it is being written, on a file system that shows such a file
    end(folder, 10, "[]")
    (folder.launches / LAUNCH / "bundles" / ".6.json.abc").write_text("")
    assert ended_bundles(folder, LAUNCH) == {name(0): "", name(3): "python differs", name(6): "", name(10): ""}


def test_bundles_in_the_queue_are_alive(folder: ScanFolder) -> None:
    slurm_jobs.write(folder, LAUNCH, JOBS)
    assert live_bundles(folder, LAUNCH, queue()) == {name(0), name(3), name(6), name(10)}
    assert live_bundles(folder, LAUNCH, queue(j12_0=ENDED)) == {name(3), name(6), name(10)}
    assert live_bundles(folder, LAUNCH, Queue(asked=2000.0)) == set()
    assert live_bundles(folder, "another", queue()) == set()


def test_a_bundle_that_told_of_its_end_is_not_alive_though_its_job_is_still_there(folder: ScanFolder) -> None:
    slurm_jobs.write(folder, LAUNCH, JOBS)
    end(folder, 0)
    assert live_bundles(folder, LAUNCH, queue()) == {name(3), name(6), name(10)}


@pytest.mark.parametrize(
    "unknown", [Queue(error="squeue: away", asked=2000.0), Queue(asked=999.0)], ids=["away", "before"]
)
def test_where_the_queue_is_not_known_nothing_is_taken_for_dead(folder: ScanFolder, unknown: Queue) -> None:
    slurm_jobs.write(folder, LAUNCH, JOBS)
    end(folder, 3)
    assert live_bundles(folder, LAUNCH, unknown) == {name(0), name(6), name(10)}


def test_a_job_that_was_taken_but_not_noted_is_found_in_the_queue(folder: ScanFolder) -> None:
    """The launch was killed between the answer of sbatch and its note of it."""
    noted = replace(JOBS, arrays=(JOBS.arrays[0], replace(JOBS.arrays[1], job="")))
    found = numbered(LAUNCH, noted, queue())
    assert found == JOBS
    slurm_jobs.write(folder, LAUNCH, noted)
    assert name(10) in live_bundles(folder, LAUNCH, queue())
    beside = replace(queue(), launches={"12": LAUNCH, "13": "another"})
    assert name(10) not in live_bundles(folder, LAUNCH, beside)
    assert (
        numbered(LAUNCH, JOBS, replace(queue(), launches={"12": LAUNCH, "13": LAUNCH, "14": LAUNCH})).retrain_job
        == "14"
    )


def test_a_number_stands_in_its_place_and_moves_the_time() -> None:
    before = replace(JOBS, arrays=(JOBS.arrays[0], replace(JOBS.arrays[1], job="")))
    after = with_number(before, 1, "13")
    assert after.arrays == JOBS.arrays
    assert time.time() - 5 < after.submitted <= time.time()


def test_the_queue_is_asked_for_launches_that_go_on_alone(folder: ScanFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[int]] = []

    def answer(folder: ScanFolder, users: set[int]) -> Queue:
        asked.append(users)
        return Queue()

    monkeypatch.setattr("nnscan.launchers.slurm.queue.ask", answer)
    ask_queue(folder)
    slurm_jobs.write(folder, LAUNCH, JOBS)
    ask_queue(folder)
    for start in (0, 3, 6, 10):
        end(folder, start)
    ask_queue(folder)
    slurm_jobs.write(folder, LAUNCH, replace(JOBS, retrain_job="14"))
    ask_queue(folder)
    assert asked == [set(), {7}, set(), {7}]


def test_ten_thousand_bundles_in_ten_arrays_are_matched(folder: ScanFolder) -> None:
    arrays = tuple(
        SubmittedArray(
            str(number), tuple((start, start + 1) for start in range(number * 1000, number * 1000 + 1000)), True
        )
        for number in range(10)
    )
    states = {array.task(index): PENDING for array in arrays for index in range(1000)}
    slurm_jobs.write(folder, LAUNCH, replace(JOBS, arrays=arrays))
    assert len(live_bundles(folder, LAUNCH, Queue(states, asked=2000.0))) == 10_000
    assert json.loads((folder.launches / LAUNCH / "jobs.json").read_bytes())["uid"] == 7
