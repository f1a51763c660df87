"""Bundles run as jobs of Slurm: tasks of arrays that are submitted through submitit.

Nothing stays behind on the login node: the jobs run a supervisor of their own (`slurm_job`), and who wants to know how
far they are reads the journals and asks the queue.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from nnscan.bundles import Bundle, Bundles
from nnscan.errors import LauncherError
from nnscan.launch_folder import Launch
from nnscan.launchers import BundleOutcome, slurm_jobs, slurm_queue
from nnscan.launchers.slurm_cluster import Cluster
from nnscan.launchers.slurm_command import SlurmError, clean_environment, run
from nnscan.launchers.slurm_jobs import Jobs, SubmittedArray
from nnscan.launchers.slurm_profile import Profile
from nnscan.results.folder import ScanFolder

SUPERVISOR_MB = 256
"""Of memory a node, beside the processes of the trial: the shell, Python and submitit need 60."""

FILL = 0.8
"""Of its time a bundle is planned to use, where it is known how long trials take."""

FOLDER_SECONDS = 0.5
"""Between two looks at the scan folder for bundles that ended."""

Work = Callable[[str, str, int, int], None]
"""Runs a bundle inside its job: scan folder, launch, first trial, the one after the last."""


@dataclass(frozen=True)
class ArrayPlan:
    """Bundles to be submitted together."""

    bundles: tuple[tuple[int, int], ...]
    """First trial of each, and the one after its last."""
    at_once: int
    """Tasks that run at the same time."""
    minutes: int
    """Longest time of a task."""
    after: int = -1
    """The array, by its place in the plan, that must have ended before this one starts; -1: none."""


@dataclass(frozen=True)
class SlurmLauncher:
    """A Slurm cluster."""

    folder: Path
    """The scan folder."""
    launch: Launch
    profile: Profile
    workers: int = 0
    """Bundles at once; 0: as the profile says."""
    cluster: Cluster = field(default_factory=Cluster)
    work: Work | None = None
    """None: nnscan's own supervisor."""

    def plan(self, trials: int, seconds: float | None = None) -> list[ArrayPlan]:
        """Return how `trials` are cut into arrays of bundles.

        Parameters
        ----------
        trials : int
            How many.
        seconds : float or None
            What they take one after another, as far as it is known.
        """
        count = self._bundles(trials, seconds)
        bundles = cut(trials, count)
        at_once = min(count, self.workers or self.profile.bundles_at_once or count)
        return arrays(bundles, self.cluster.array_size, at_once, self.profile.minutes)

    def _bundles(self, trials: int, seconds: float | None) -> int:
        if self.profile.trials_per_bundle:
            return -(-trials // self.profile.trials_per_bundle)
        needed = math.ceil((seconds or 0.0) / (FILL * self.profile.minutes * 60))
        return min(trials, max(needed, self.workers or self.profile.bundles_at_once or 16))

    def submit(self, bundles: Bundles, seconds: float | None = None) -> SlurmSubmission:
        """Submit the trials of `bundles` in arrays; how they are cut is decided here.

        Raises
        ------
        LauncherError
            Where Slurm takes no job, or no more of them: those that it took stay, and their numbers are kept.
        """
        plans = self.plan(bundles.trials, seconds)
        jobs = Jobs(
            profile=self.profile.model_dump(),
            arrays=tuple(SubmittedArray("", plan.bundles, len(plan.bundles) > 1) for plan in plans),
            submitted=time.time(),
        )
        folder = ScanFolder(self.folder)
        slurm_jobs.write(folder, self.launch.name, jobs)
        slurm_queue.forget(folder)
        for place, plan in enumerate(plans):
            after = [jobs.arrays[plan.after].job] if plan.after >= 0 else []
            number = self._submit_array(plan, after)
            submitted = replace(jobs.arrays[place], job=number)
            jobs = replace(jobs, arrays=(*jobs.arrays[:place], submitted, *jobs.arrays[place + 1 :]))
            slurm_jobs.write(folder, self.launch.name, jobs)
        return SlurmSubmission(folder, self.launch.name)

    def _submit_array(self, plan: ArrayPlan, after: Sequence[str]) -> str:
        work = self.work or _supervise()
        columns = zip(*plan.bundles, strict=True)
        folder, launch = [str(self.folder)] * len(plan.bundles), [self.launch.name] * len(plan.bundles)
        with clean_environment():
            try:
                submitted = self._executor(plan, after).map_array(work, folder, launch, *columns)
            except Exception as error:
                raise LauncherError(f"sbatch: {error}") from error
        return str(submitted[0].job_id).partition("_")[0]

    def submit_after(self, submission: SlurmSubmission) -> str:
        """Submit a job that retrains the winners once all of `submission` ended, and return its number."""
        from nnscan.launchers.slurm_retrain import retrain

        jobs = submission.jobs
        plan = ArrayPlan(((0, 1),), 1, self.profile.minutes)
        with clean_environment():
            job = self._executor(plan, [array.job for array in jobs.arrays]).submit(retrain, str(self.folder))
        slurm_jobs.write(submission.folder, submission.launch, replace(jobs, retrain_job=str(job.job_id)))
        return str(job.job_id)

    def sbatch_text(self, plan: ArrayPlan) -> str:
        """Return the script that is submitted for an array."""
        executor = self._executor(plan, [])
        if len(plan.bundles) > 1:
            executor.parameters["map_count"] = len(plan.bundles)
        return str(executor._make_submission_file_text(executor._submitit_command_str, ""))

    def _executor(self, plan: ArrayPlan, after: Sequence[str]) -> Any:
        from submitit import SlurmExecutor

        executor = SlurmExecutor(
            folder=self.folder / "launches" / self.launch.name / "submitit",
            python=shlex.quote(self.profile.python or sys.executable),
        )
        executor.update_parameters(**parameters(self.launch, self.profile, plan, after))
        return executor


def _supervise() -> Work:
    from nnscan.launchers.slurm_job import supervise

    return supervise


def parameters(launch: Launch, profile: Profile, plan: ArrayPlan, after: Sequence[str]) -> dict[str, Any]:
    """Return what submitit is told of an array: each task gets what one trial needs."""
    ranks = launch.processes // launch.nodes
    asked = {
        "job_name": f"nnscan-{launch.scan}",
        "time": plan.minutes,
        "nodes": launch.nodes,
        "ntasks_per_node": ranks,
        "cpus_per_task": profile.cpus_per_process or launch.threads,
        "mem": f"{math.ceil(profile.memory_gb_per_process * 1024 * ranks) + SUPERVISOR_MB}MB",
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "dependency": f"afterany:{':'.join(after)}" if after else "",
        "setup": [*profile.setup, f"export PYTHONPATH={shlex.quote(launch.code)}${{PYTHONPATH:+:$PYTHONPATH}}"],
    }
    if not profile.memory_gb_per_process:
        del asked["mem"]
    if launch.gpus_per_trial:
        number = int(launch.gpus_per_trial) // launch.nodes
        asked["gpus_per_node"] = f"{profile.gpus}:{number}" if profile.gpus else str(number)
    return {
        **{name: value for name, value in asked.items() if value},
        "signal_delay_s": profile.signal_seconds,
        "array_parallelism": plan.at_once,
        "stderr_to_stdout": True,
        "use_srun": False,
        "wckey": None,  # submitit's own would be refused where keys are enforced
        "additional_parameters": {"requeue": True, **_reservation(profile), **profile.sbatch},
    }


def _reservation(profile: Profile) -> dict[str, str]:
    return {"reservation": profile.reservation} if profile.reservation else {}


def cut(trials: int, count: int) -> tuple[tuple[int, int], ...]:
    """Return `count` ranges that share `trials` evenly, in order."""
    edges = [place * trials // count for place in range(count + 1)]
    return tuple(pairwise(edges))


def arrays(bundles: Sequence[tuple[int, int]], largest: int, at_once: int, minutes: int) -> list[ArrayPlan]:
    """Return arrays of at most `largest` bundles each, of which `at_once` run at the same time in all.

    Arrays that share the limit run side by side, each with a part of it; where there are more arrays than that, they
    follow each other in chains.
    """
    least = -(-len(bundles) // largest)
    chains = min(least, at_once)
    number = -(-least // chains) * chains  # so that the chains are equally long
    return [
        ArrayPlan(
            tuple(bundles[start:stop]),
            at_once // chains + (place % chains < at_once % chains),
            minutes,
            place - chains if place >= chains else -1,
        )
        for place, (start, stop) in enumerate(cut(len(bundles), number))
    ]


@dataclass(frozen=True)
class SlurmSubmission:
    """Bundles that were submitted."""

    folder: ScanFolder
    launch: str

    @property
    def jobs(self) -> Jobs:
        """The jobs, as their file has them."""
        jobs = slurm_jobs.read(self.folder, self.launch)
        if jobs is None:
            raise LauncherError(f"{self.folder.launches / self.launch} names no jobs.")
        return jobs

    def __iter__(self) -> Iterator[BundleOutcome]:
        """Yield an outcome a bundle as they end, as the scan folder tells, or the queue no longer knows them."""
        left = {Bundle(self.launch, *bundle).name: Bundle(self.launch, *bundle) for bundle in self._bundles()}
        while left:
            for name, error in slurm_jobs.ended_bundles(self.folder, self.launch).items():
                if name in left:
                    yield BundleOutcome(left.pop(name), error)
            time.sleep(FOLDER_SECONDS)
            queue = slurm_jobs.ask_queue(self.folder)
            live = slurm_jobs.live_bundles(self.folder, self.launch, queue)
            ended = slurm_jobs.ended_bundles(self.folder, self.launch)
            for name in left.keys() - live - ended.keys():
                yield BundleOutcome(left.pop(name), "its job is gone from the queue: launch again.")

    def _bundles(self) -> Iterator[tuple[int, int]]:
        for array in self.jobs.arrays:
            yield from array.bundles

    def cancel(self) -> None:
        """Cancel all jobs.

        Raises
        ------
        LauncherError
            Where Slurm does not answer.
        """
        try:
            run(["scancel", *self.jobs.numbers])
        except SlurmError as error:
            raise LauncherError(f"cannot cancel the jobs {', '.join(self.jobs.numbers)}: {error}") from error
