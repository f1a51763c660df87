"""A launch that retrains the winners when its trials have ended: here, or on Slurm in a job that waits for the others.

`python -m nnscan.then_retrain FOLDER JOB` is what that job begins with, in a process of its own: it loads torch to look
at the data, and memory that it held would be missing to the training.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnscan import launch_folder, snapshot, submitting
from nnscan.bundles import Bundle
from nnscan.errors import NnscanError, Problem, ScanError
from nnscan.launch_folder import Launch
from nnscan.launch_options import LaunchOptions, Outcome, Submitted
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.jobs import Jobs, SubmittedArray
from nnscan.launching import Order, held, launch, new_launch, quiet, write_for_jobs
from nnscan.results.folder import ScanFolder
from nnscan.retraining import RetrainOptions, RetrainOutcome, choose, order_again, retrain_best, work_of
from nnscan.running import Show
from nnscan.scan import Scan


def launch_then_retrain(
    scan: Scan, folder: ScanFolder, options: LaunchOptions, show: Show = quiet
) -> tuple[Outcome, RetrainOutcome | None]:
    """Launch a scan and retrain its winners after it; None where that is left to a job, or trials are pending.

    Raises
    ------
    NnscanError
        As a launch, and a retraining, do.
    """
    if options.trial or options.limit:
        raise ScanError("options", [Problem("--then-retrain", "needs the whole scan: leave out --trial and --limit.")])
    if options.cluster == "slurm":
        return launch(scan, folder, options, show, then=_submit_job), None
    outcome = launch(scan, folder, options, show)
    ready = not (outcome.progress.pending or outcome.interrupted or outcome.error or outcome.stopped)
    return outcome, retrain_best(folder, RetrainOptions(), options, show) if ready else None


def _submit_job(order: Order, outcome: Outcome) -> Outcome:
    """Submit the job that retrains when all jobs of the scan have ended."""
    job = submitting.submit_after(order.folder, _with_code(order), order.options, retrain_in_job)
    submitted = outcome.submitted or Submitted(launch="", jobs=())
    return replace(outcome, submitted=replace(submitted, retrain_job=job))


def _with_code(order: Order) -> Launch:
    """Return the last launch, whose copy of the code the job takes; a new one where that left none."""
    launches = launch_folder.read_all(order.folder)
    if launches and launches[-1].import_path:
        return launches[-1]
    launch = new_launch(order)
    path = snapshot.take(order.code, order.folder.launches / launch.name / "code")
    return replace(launch, code=str(path[0]), import_path=tuple(map(str, path)))


def retrain_in_job(folder: str) -> None:
    """Retrain the winners inside this job of Slurm; what it began before it was requeued, it goes on with."""
    from nnscan.launchers.slurm.supervisor import supervise

    job = os.environ["SLURM_JOB_ID"]
    bundle = _begun(ScanFolder(Path(folder)), job) or _begin_apart(folder, job)
    if bundle.stop > bundle.start:
        supervise(folder, bundle.launch, bundle.start, bundle.stop)


def _begun(folder: ScanFolder, job: str) -> Bundle | None:
    for launch_name, jobs in slurm_jobs.read_all(folder).items():
        for array in jobs.arrays:
            if array.job == job and not array.array:
                return Bundle(launch_name, *array.bundles[0])
    return None


def _begin_apart(folder: str, job: str) -> Bundle:
    """Return what `begin` says in a process of its own; SystemExit with its status where it refuses."""
    command = [sys.executable, "-m", "nnscan.then_retrain", folder, job]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.returncode)
    return Bundle(**json.loads(done.stdout.splitlines()[-1]))


def begin(folder: ScanFolder, job: str) -> Bundle:
    """Write the launch of the retrainings, which the job `job` is to run, and return its bundle; empty where done.

    Raises
    ------
    ScanError
        Where trials are pending, or a family has no winner.
    """
    order = order_again(folder, None, quiet)
    order = replace(order, options=replace(order.options, wait=True))
    with held(order) as left_alone:
        work = work_of(order.folder, choose(order.folder, RetrainOptions()), left_alone)
        wanted = new_launch(order)
        if len(work.keys):
            write_for_jobs(order, wanted, work)
            array = SubmittedArray(job, ((0, len(work.keys)),), array=False)
            slurm_jobs.write(order.folder, wanted.name, Jobs(profile={}, arrays=(array,), submitted=time.time()))
        return Bundle(wanted.name, 0, len(work.keys))


def main(arguments: Sequence[str]) -> int:
    """Print the bundle to run, as JSON; what refuses goes to standard error."""
    folder, job = arguments
    try:
        print(json.dumps(begin(ScanFolder(Path(folder)), job).plain()))
    except NnscanError as error:
        print(f"The winners are not retrained: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
