"""What a job knows of itself, and how it asks a Slurm that does not always answer."""

from __future__ import annotations

import math

import pytest

from nnscan.launchers.slurm import own_job as slurm_own_job
from nnscan.launchers.slurm.command import SlurmError
from nnscan.launchers.slurm.own_job import OwnJob, Time, is_away, patiently, read_time

AWAY = SlurmError("scontrol: Unable to contact slurm controller (connect failure)")
REFUSED = SlurmError("scontrol: Requested operation is presently disabled for job 7")


@pytest.mark.parametrize(
    ("variables", "number", "restart"),
    [
        ({"SLURM_JOB_ID": "7"}, "7", 0),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "3"}, "7", 3),
        # One task of an array has the number of the whole array: to name it by that would name all of them.
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "4"}, "7_4", 0),
    ],
)
def test_the_number_of_a_job_is_that_of_its_own_task(variables, number, restart):
    assert OwnJob.here(variables) == OwnJob(number, restart)


@pytest.mark.parametrize(
    ("text", "left", "limit"),
    [
        ("0:09 1:00\n", 9, 60),
        ("59:30 1:00:00", 3570, 3600),
        ("1-02:03:04 2-00:00:00", 93784, 172800),
        ("UNLIMITED UNLIMITED", math.inf, math.inf),
        ("INVALID 5:00", math.inf, 300),
        ("", math.inf, math.inf),
    ],
)
def test_time_is_read_as_squeue_prints_it(text, left, limit):
    assert read_time(text) == Time(left, limit)


@pytest.fixture
def pauses(monkeypatch):
    found = []
    monkeypatch.setattr(slurm_own_job.time, "sleep", found.append)
    return found


def failing(*errors):
    """A question that is answered after these errors."""
    left = list(errors)

    def ask():
        if left:
            raise left.pop(0)
        return "answer"

    return ask


def test_a_controller_that_is_away_is_waited_for(pauses):
    assert patiently(failing(*[AWAY] * 30)) == "answer"
    assert len(pauses) == 30


def test_a_refusal_is_told_after_a_few_times(pauses):
    assert patiently(failing(*[REFUSED] * 4)) == "answer"
    with pytest.raises(SlurmError, match="presently disabled"):
        patiently(failing(*[REFUSED] * 5))


@pytest.mark.parametrize(
    ("words", "away"),
    [
        ("srun: error: Unable to create step for job 7: Unable to contact slurm controller (connect failure)", True),
        ("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", True),
        ("scontrol: no answer within 20 s", True),
        ("srun: error: Unable to create step for job 7: Requested node configuration is not available", False),
        ("Invalid job id specified", False),
    ],
)
def test_it_is_told_apart_whether_a_controller_is_away(words, away):
    assert is_away(words) is away
