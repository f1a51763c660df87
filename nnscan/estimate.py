"""What a launch would do, without doing it: no data, no lock, no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nnscan import fingerprints, submitting, weight_files
from nnscan.bundles import Bundles
from nnscan.cost import seconds_of_work
from nnscan.cpus import usable_cpus
from nnscan.elsewhere import elsewhere
from nnscan.errors import DataError, ScanError
from nnscan.launch_options import LaunchOptions
from nnscan.launchers.slurm.plan import ArrayPlan
from nnscan.launching import Order, new_launch
from nnscan.plan import Plan, expand
from nnscan.reconcile import COLUMNS, ToDo, one_trial, still_to_do
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.scan import Scan


@dataclass(frozen=True, kw_only=True)
class FamilyEstimate:
    """A family of a scan."""

    name: str
    axes: Mapping[str, Sequence[Any]]
    """Options that vary, with their values, in the order of the scan file."""
    configurations: int
    trials: int


@dataclass(frozen=True, kw_only=True)
class SlurmEstimate:
    """What a launch would submit to Slurm."""

    arrays: tuple[ArrayPlan, ...]
    script: str
    """For sbatch, of the first array."""
    gpus: float
    """Of each trial."""
    gpu_hours: float | None
    """That the trials take; None where no trial has finished yet."""
    note: str
    """Why it is planned without knowing the cluster; "" where it is known."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a launch would do."""

    families: tuple[FamilyEstimate, ...]
    configurations: int
    """A configuration in two families counts once."""
    trials: int
    done: int
    """Completed or diverged."""
    failed: int
    """Failed, and left so."""
    to_run: int
    bundles: int
    workers: int
    seconds: float | None
    """How long it takes, from what finished trials of this scan took; None where none has finished."""
    data_found: bool
    data_message: str
    """What is missing and what to do; "" where nothing is."""
    elsewhere: int = 0
    """Trials that jobs of earlier launches are to train."""
    weights: Mapping[str, Path] = field(default_factory=dict)
    """The files of weights that the scan file names by paths, by what stands in settings for them."""
    slurm: SlurmEstimate | None = None
    """What would be submitted, on Slurm and where there is something to run."""


def dry_run(scan: Scan, folder: ScanFolder, options: LaunchOptions) -> Estimate:
    """Return what a launch of `scan` would do."""
    plan = expand(scan)
    to_do = _to_do(plan, folder, options)
    wanted = to_do.first(options.limit)
    slurm = _slurm(scan, folder, options, _Work(len(wanted), seconds_of_work(plan, folder, wanted)))
    workers = sum(array.at_once for array in slurm.arrays if array.after < 0) if slurm else _workers(scan, options)
    message = missing_data(scan)
    return Estimate(
        families=tuple(_family(plan, name) for name in scan.families),
        configurations=pc.count_distinct(plan.table["configuration"]).as_py(),
        trials=len(to_do.keys),
        done=to_do.done,
        failed=to_do.failed,
        to_run=len(wanted),
        bundles=_bundles(slurm, len(wanted), workers),
        workers=workers,
        seconds=_seconds(plan, folder, wanted, workers),
        data_found=not message,
        data_message=message,
        elsewhere=to_do.elsewhere,
        weights=weight_files.names(scan.weights),
        slurm=slurm,
    )


@dataclass(frozen=True)
class _Work:
    trials: int
    seconds: float | None


def _slurm(scan: Scan, folder: ScanFolder, options: LaunchOptions, work: _Work) -> SlurmEstimate | None:
    """Return what would be submitted; ScanError where the cluster would not run it."""
    if options.cluster != "slurm" or not work.trials:
        return None
    folder = ScanFolder(folder.path.absolute())
    launch = new_launch(Order(scan=scan, folder=folder, options=options))
    launch = replace(launch, code=str(folder.launches / launch.name / "code"))
    launcher, note = submitting.launcher(folder, launch, options), ""
    try:
        launcher = submitting.knowing(launcher)
    except ScanError as error:
        note = error.problems[0].message
    else:
        submitting.refuse(launcher, work.trials, work.seconds)
    arrays = launcher.plan(work.trials, work.seconds)
    gpus = launch.gpus_per_trial
    return SlurmEstimate(
        arrays=tuple(arrays),
        script="" if note else launcher.sbatch_text(arrays[0]),
        gpus=gpus,
        gpu_hours=None if work.seconds is None else gpus * work.seconds / 3600,
        note=note,
    )


def _bundles(slurm: SlurmEstimate | None, trials: int, workers: int) -> int:
    if slurm:
        return sum(len(array.bundles) for array in slurm.arrays)
    return sum(1 for _ in Bundles("", trials, workers))


def missing_data(scan: Scan) -> str:
    """Return what data of `scan` are missing and what to do; "" where nothing is. Nothing is decoded."""
    try:
        for settings in fingerprints.data_settings(scan):
            from nnscan.data.dataset import stamp  # torch

            stamp(settings, scan.data_root)
    except (DataError, ScanError) as error:
        return str(error)
    return ""


def _to_do(plan: Plan, folder: ScanFolder, options: LaunchOptions) -> ToDo:
    if options.trial:
        return one_trial(plan.keys(), options.trial)
    trials, held = store.read_trials(folder, list(COLUMNS)), elsewhere(folder).keys
    return still_to_do(plan.keys(), trials, retry_failed=options.retry_failed, elsewhere=held)


def _family(plan: Plan, name: str) -> FamilyEstimate:
    rows = plan.table.filter(pc.equal(plan.table["family"], name))
    return FamilyEstimate(
        name=name,
        axes=plan.axes(name),
        configurations=pc.count_distinct(rows["configuration"]).as_py(),
        trials=len(rows),
    )


def _workers(scan: Scan, options: LaunchOptions) -> int:
    """Return how many bundles run at once; of a Ray cluster, whose size is known once it is joined, as if here."""
    if options.cluster == "inline":
        return max(1, options.workers)
    return options.workers or max(1, usable_cpus() // scan.resources.cpus)


def _seconds(plan: Plan, folder: ScanFolder, wanted: pa.Array, workers: int) -> float | None:
    """Return what `wanted` take where so many run at once."""
    total = seconds_of_work(plan, folder, wanted)
    return None if total is None else total / min(workers, max(1, len(wanted)))
