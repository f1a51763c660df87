"""A launch on Slurm: the cluster is asked whether it can, the bundles become jobs, and whoever likes waits for them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from nnscan.bundles import Bundle, Bundles
from nnscan.elsewhere import elsewhere
from nnscan.errors import ScanError
from nnscan.launch_folder import Launch
from nnscan.launch_options import LaunchOptions, Submitted, SubmittedJob
from nnscan.launchers.slurm import cluster as slurm_cluster
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm.launcher import SlurmLauncher, SlurmSubmission
from nnscan.launchers.slurm.profile import filled, find_profile
from nnscan.launchers.slurm.request import Request
from nnscan.launchers.slurm.visible import check_visible
from nnscan.results.folder import ScanFolder


def launcher(folder: ScanFolder, launch: Launch, options: LaunchOptions) -> SlurmLauncher:
    """Return the launcher of a launch, with the profile that was asked for."""
    profile = filled(find_profile(options.profile), os.environ)
    return SlurmLauncher(folder.path, launch, profile, options.workers)


def knowing(launcher: SlurmLauncher) -> SlurmLauncher:
    """Return the launcher, knowing what its cluster allows; ScanError where there is none, or it does not answer."""
    return replace(launcher, cluster=slurm_cluster.read(launcher.profile))


def refuse(launcher: SlurmLauncher, trials: int, seconds: float | None) -> None:
    """Raise ScanError where the cluster would not run what is asked."""
    if problems := list(launcher.problems(trials, seconds)):
        raise ScanError("Slurm", problems)


def checked(launcher: SlurmLauncher, trials: int, seconds: float | None) -> tuple[SlurmLauncher, str]:
    """Return the launcher, knowing its cluster, and what could not be found out of that.

    Raises
    ------
    ScanError
        Where the cluster would not run what is asked, or its nodes do not see the scan folder.
    """
    known = knowing(launcher)
    refuse(known, trials, seconds)
    return known, check_visible(ScanFolder(known.folder), Request(known.launch, known.profile))


def submit(launcher: SlurmLauncher, trials: int, seconds: float | None) -> Submitted:
    """Submit `trials` of the launch.

    Raises
    ------
    LauncherError
        Where Slurm takes no job, or no more: those that it took stay.
    """
    submission = launcher.submit(Bundles(launcher.launch.name, trials, launcher.workers), seconds)
    arrays = zip(submission.jobs.arrays, launcher.plan(trials, seconds), strict=True)
    return Submitted(
        launch=launcher.launch.name,
        jobs=tuple(
            SubmittedJob(
                job=array.job,
                bundles=len(array.bundles),
                trials=array.bundles[-1][1] - array.bundles[0][0],
                minutes=plan.minutes,
                partition=launcher.profile.partition,
            )
            for array, plan in arrays
        ),
    )


def submit_after(folder: ScanFolder, launch: Launch, options: LaunchOptions, work: Callable[[str], None]) -> str:
    """Submit a job that does `work(scan folder)` when all jobs of the scan have ended; return its number."""
    live = elsewhere(folder).bundles
    launches = slurm_jobs.read_all(folder)
    alive = [
        array.job
        for name, jobs in launches.items()
        for array in jobs.arrays
        if array.job and any(Bundle(name, *place).name in live for place in array.bundles)
    ]
    return launcher(folder, launch, options).submit_after(alive, work)


def wait(folder: ScanFolder) -> str:
    """Return when no job of a scan is left: why the first that gave up did, "" where none has."""
    live = elsewhere(folder).bundles
    submissions = [SlurmSubmission(folder, launch) for launch in slurm_jobs.read_all(folder)]
    outcomes = (outcome for submission in submissions for outcome in submission if outcome.bundle.name in live)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    return errors[0] if errors else ""
