"""Bundles run as jobs of Slurm: tasks of arrays that are submitted through submitit.

Nothing stays behind on the login node: the jobs run a supervisor of their own (`supervisor`), and who wants to know how
far they are reads the journals and asks the queue.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nnscan.bundles import Bundle, Bundles
from nnscan.errors import LauncherError, Problem
from nnscan.launch_folder import Launch
from nnscan.launchers import BundleOutcome
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm import limits as slurm_limits
from nnscan.launchers.slurm import plan as slurm_plan
from nnscan.launchers.slurm import queue as slurm_queue
from nnscan.launchers.slurm.cluster import Cluster
from nnscan.launchers.slurm.command import SlurmError, clean_environment, run
from nnscan.launchers.slurm.jobs import Jobs, SubmittedArray
from nnscan.launchers.slurm.plan import MOST_AT_ONCE, WORTH_SECONDS, ArrayPlan, Space
from nnscan.launchers.slurm.profile import Profile
from nnscan.launchers.slurm.queue import JobState, Queue
from nnscan.launchers.slurm.reasons import advice
from nnscan.launchers.slurm.request import Request
from nnscan.results.folder import ScanFolder

FOLDER_SECONDS = 0.5
"""Between two looks at the scan folder for bundles that ended."""

CANCEL_SECONDS = 60.0
"""How long a controller that is away is waited for before a cancellation is given up."""

CANCEL_AGAIN_SECONDS = 3.0

JOBS_A_COMMAND = 1000
"""Job numbers in one command: an argument list has an end."""

Work = Callable[[str, str, int, int], None]
"""Runs a bundle inside its job: scan folder, launch, first trial, the one after the last."""


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
    """As `slurm_cluster.read` found it."""
    further_jobs: int = 0
    """Jobs that will be submitted after the bundles, such as a retraining."""
    work: Work | None = None
    """What a job runs; None: nnscan's supervisor."""

    def problems(self, trials: int, seconds: float | None = None) -> Iterator[Problem]:
        """Yield what the cluster will not do; where nnscan finds nothing, what `sbatch --test-only` says.

        The arguments are those of `plan`.
        """
        found = list(slurm_limits.problems(Request(self.launch, self.profile), self.cluster))
        yield from found or self._refusals(self.plan(trials, seconds)[0])

    def _refusals(self, plan: ArrayPlan) -> Iterator[Problem]:
        try:
            run(["sbatch", "--test-only"], given=self.sbatch_text(plan))
        except SlurmError as error:
            yield Problem("profile", f"Slurm would refuse the jobs ({error}). Compare the profile with `sinfo`.")

    def plan(self, trials: int, seconds: float | None = None) -> list[ArrayPlan]:
        """Return how trials are cut into arrays of bundles.

        Parameters
        ----------
        trials : int
            How many, at least 1.
        seconds : float or None
            What they take one after another; None where it is not known.
        """
        left = [limit.left for limit in slurm_limits.limits(self.profile, self.cluster)]
        space = Space(
            at_once=self.workers or self.profile.bundles_at_once or self._room(seconds),
            minutes=self.profile.minutes,
            array_size=self.cluster.array_size,
            jobs=min(left) - self.further_jobs if left else None,
            trials_per_bundle=self.profile.trials_per_bundle,
        )
        return slurm_plan.plan(trials, seconds, space)

    def _room(self, seconds: float | None) -> int:
        """Return how many bundles the cluster lets run at once, no more than the work is worth."""
        request = Request(self.launch, self.profile)
        running = slurm_limits.running_at_most(request, self.cluster) or MOST_AT_ONCE
        worth = MOST_AT_ONCE if seconds is None else math.ceil(seconds / WORTH_SECONDS)
        return max(1, min(slurm_limits.room(request, self.cluster), MOST_AT_ONCE, running, worth))

    def submit(self, bundles: Bundles, seconds: float | None = None) -> SlurmSubmission:
        """Submit the trials of `bundles`; how they are cut, `plan` decides.

        Raises
        ------
        LauncherError
            Where Slurm takes no job, or no more of them: those that it took stay, and their numbers are kept.
        """
        plans = self.plan(bundles.trials, seconds)
        folder, name = ScanFolder(self.folder), self.launch.name
        jobs = Jobs(
            profile=self.profile.model_dump(),
            arrays=tuple(SubmittedArray("", plan.bundles, len(plan.bundles) > 1) for plan in plans),
            submitted=time.time(),
        )
        slurm_jobs.write(folder, name, jobs)  # before the first job looks for it
        slurm_queue.forget(folder)
        for place, plan in enumerate(plans):
            after = [jobs.arrays[plan.after].job] if plan.after >= 0 else []
            jobs = slurm_jobs.with_number(jobs, place, self._submit_array(plan, after, place, len(plans)))
            slurm_jobs.write(folder, name, jobs)
        return SlurmSubmission(folder, name)

    def _submit_array(self, plan: ArrayPlan, after: Sequence[str], place: int, count: int) -> str:
        launch = [self.launch.name] * len(plan.bundles)
        folders, (starts, stops) = [str(self.folder)] * len(plan.bundles), zip(*plan.bundles, strict=True)
        executor = self._executor(plan, after)
        try:
            with clean_environment():
                jobs = executor.map_array(self.work or _supervise(), folders, launch, starts, stops)
        except Exception as error:  # submitit raises what it meets: its own, subprocess', the file system's
            done = f"{place} of {count} arrays were submitted and stay" if place else "nothing was submitted"
            raise LauncherError(
                f"Slurm took no job: {_last_line(error)} ({done}). Launch again for the rest."
            ) from error
        return str(jobs[0].job_id).partition("_")[0]

    def submit_after(self, jobs: Sequence[str], work: Callable[[str], None]) -> str:
        """Submit a job that does `work(scan folder)` in the allocation of a trial when `jobs` have ended.

        Returns
        -------
        str
            Its number, which is kept as `retrain_job` of this launch.
        """
        folder, name = ScanFolder(self.folder), self.launch.name
        executor = self._executor(ArrayPlan(((0, 1),), 1, self.profile.minutes), jobs)
        try:
            with clean_environment():
                number = str(executor.submit(work, str(self.folder)).job_id)
        except Exception as error:
            raise LauncherError(f"Slurm took no job for the retraining: {_last_line(error)}.") from error
        before = slurm_jobs.read(folder, name) or Jobs(
            profile=self.profile.model_dump(), arrays=(), submitted=time.time()
        )
        slurm_jobs.write(folder, name, replace(before, retrain_job=number, submitted=time.time()))
        slurm_queue.forget(folder)
        return number

    def sbatch_text(self, plan: ArrayPlan) -> str:
        """Return the script that is submitted for an array."""
        executor = self._executor(plan, ["..."] if plan.after >= 0 else [])
        if len(plan.bundles) > 1:
            executor.parameters["map_count"] = len(plan.bundles)
        return str(executor._make_submission_file_text(executor._submitit_command_str, ""))

    def _executor(self, plan: ArrayPlan, after: Sequence[str]) -> Any:
        from submitit import SlurmExecutor

        executor = SlurmExecutor(
            folder=self.folder / "launches" / self.launch.name / "submitit",
            python=shlex.quote(self.profile.python or sys.executable),
        )
        executor.update_parameters(**parameters(Request(self.launch, self.profile), plan, after))
        return executor


def _supervise() -> Work:
    from nnscan.launchers.slurm.supervisor import supervise

    return supervise


def _last_line(error: Exception) -> str:
    """Return what sbatch said last; submitit puts a traceback and the command before it."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


def parameters(request: Request, plan: ArrayPlan, after: Sequence[str]) -> dict[str, Any]:
    """Return what submitit is told of an array: each task gets what one trial needs."""
    launch, profile = request.launch, request.profile
    asked = {
        "job_name": f"nnscan-{launch.scan}",
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "exclude": profile.exclude,
        "mem": f"{request.memory_mb}M" if request.memory_mb else "",
        "gpus_per_node": request.typed_gpus(request.gpus) if request.gpus else "",
        "gres": f"shard:{request.shards}" if request.shards else "",
        "dependency": f"afterany:{':'.join(after)}" if after else "",
    }
    return {
        **{name: value for name, value in asked.items() if value},
        "time": plan.minutes,
        "nodes": request.nodes,
        "ntasks_per_node": request.ranks,
        "cpus_per_task": request.cpus_per_process,
        "signal_delay_s": profile.signal_seconds,
        "array_parallelism": plan.at_once,
        "setup": [*profile.setup, _import_from(launch.import_path or (launch.code,))],
        "stderr_to_stdout": True,
        "use_srun": False,
        "wckey": None,  # submitit's own would be refused where keys are enforced
        "additional_parameters": {"requeue": True, **_reservation(profile), **profile.sbatch},
    }


def _reservation(profile: Profile) -> dict[str, str]:
    return {"reservation": profile.reservation} if profile.reservation else {}


def _import_from(folders: Sequence[str]) -> str:
    """Return a line of shell that puts folders before all others that Python imports from."""
    return f"export PYTHONPATH={shlex.quote(':'.join(folders))}${{PYTHONPATH:+:$PYTHONPATH}}"


# ------------------------------------------------------------------------------------------------ following


@dataclass(frozen=True)
class SlurmSubmission:
    """Bundles of a launch that were submitted, by this process or long ago."""

    folder: ScanFolder
    launch: str

    @property
    def jobs(self) -> Jobs:
        """The jobs, as their file has them."""
        jobs = slurm_jobs.read(self.folder, self.launch)
        if jobs is None:
            raise LauncherError(f"{self.folder.launches / self.launch} names no jobs of Slurm.")
        return jobs

    def __iter__(self) -> Iterator[BundleOutcome]:
        """Yield an outcome a bundle as they end: as the scan folder tells, else as the queue no longer knows them.

        The scan folder is looked at twice a second, the queue asked at most once in ten. A bundle is lost that is gone
        from the queue, or can never start, when two answers running say so: a file system may show the file that tells
        its end later than Slurm does, and some reasons pass.
        """
        left = {bundle.name: bundle for array in self.jobs.arrays for bundle in _bundles(self.launch, array)}
        lost: dict[str, str] = {}
        asked, ask_at = 0.0, time.monotonic()
        while left:
            for name in slurm_jobs.ended_names(self.folder, self.launch) & left.keys():
                yield self._outcome(left.pop(name))
            if left and time.monotonic() >= ask_at:
                ask_at, queue = time.monotonic() + slurm_queue.POLL_SECONDS, slurm_jobs.ask_queue(self.folder)
                if queue.asked > asked and not queue.error:
                    asked, before, lost = queue.asked, lost, self._lost(queue)
                    for name in left.keys() & lost.keys() & before.keys():
                        yield BundleOutcome(left.pop(name), lost[name])
            if left:
                time.sleep(FOLDER_SECONDS)

    def _outcome(self, bundle: Bundle) -> BundleOutcome:
        return BundleOutcome(bundle, slurm_jobs.end_of(self.folder, self.launch, bundle.start))

    def _lost(self, queue: Queue) -> dict[str, str]:
        """Return why bundles will not run, or not to their end, by their names; not those that told of their end."""
        jobs = slurm_jobs.bundle_jobs(self.launch, slurm_jobs.numbered(self.launch, self.jobs, queue))
        live = slurm_jobs.live_bundles(self.folder, self.launch, queue)
        told = slurm_jobs.ended_names(self.folder, self.launch)
        why = {name: _why_lost(job, queue.state(job), name in live) for name, job in jobs.items() if name not in told}
        return {name: words for name, words in why.items() if words}

    def cancel(self) -> None:
        """Cancel all jobs, the retraining's included; the arguments of `cancel_jobs` are theirs."""
        queue = slurm_jobs.ask_queue(self.folder)
        cancel_jobs(slurm_jobs.numbered(self.launch, self.jobs, queue).numbers)


def _bundles(launch: str, array: SubmittedArray) -> list[Bundle]:
    return [Bundle(launch, start, stop) for start, stop in array.bundles]


def _why_lost(job: str, state: JobState, live: bool) -> str:
    if live:
        remedy = advice(state.reason) if state.state == "PENDING" else ""
        return f"job {job} cannot start ({state.reason}): {remedy}. `nnscan cancel` takes it back." if remedy else ""
    if not job:
        return "it was never submitted: the launch ended before. Launch again."
    told = f" ({state.state})" if state.state else ""
    return f"job {job} left the queue{told} before its trials had ended. What had is kept; launch again for the rest."


def cancel_jobs(numbers: Sequence[str], *, seconds: float = CANCEL_SECONDS) -> None:
    """Cancel jobs: "123" with all its tasks, or the task "123_4"; those that ended are passed over.

    Raises
    ------
    LauncherError
        Where the controller is still away after `seconds`: nothing, or not all, was cancelled.
    """
    deadline = time.monotonic() + seconds
    for start in range(0, len(numbers), JOBS_A_COMMAND):
        _cancel(list(numbers[start : start + JOBS_A_COMMAND]), deadline)


def _cancel(numbers: list[str], deadline: float) -> None:
    while True:
        try:
            run(["scancel", "--quiet", *numbers])
            return
        except SlurmError as error:
            if _is_over(error):
                return
            if time.monotonic() > deadline:
                message = f"cannot cancel the jobs {', '.join(numbers[:10])}{' ...' if len(numbers) > 10 else ''}"
                raise LauncherError(f"{message}: {error}. They go on; cancel again when Slurm answers.") from error
        time.sleep(CANCEL_AGAIN_SECONDS)


def _is_over(error: SlurmError) -> bool:
    return "Invalid job id" in str(error) or "already completing or completed" in str(error)
