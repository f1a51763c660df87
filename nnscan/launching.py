"""A launch: what a scan still lacks is found, handed to a launcher, watched, and told.

The grid is desired state, so the same call starts a scan, resumes it, retries what failed and extends it. On Slurm
the trials are handed over as jobs, and what jobs of earlier launches hold is left alone.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nnscan import fingerprints, launch_folder, pretrained, snapshot, submitting, weight_files
from nnscan.bundles import Bundles
from nnscan.cost import longest_first, seconds_of_work
from nnscan.elsewhere import Elsewhere, elsewhere, remove_leftovers
from nnscan.errors import DataError, LauncherError, NnscanError, StoreError
from nnscan.failure import TRIES
from nnscan.fusing import OFF, company
from nnscan.grid import trains_networks
from nnscan.launch_folder import Launch
from nnscan.launch_options import FailedTrial, LaunchOptions, Outcome, Submitted
from nnscan.plan import Plan, expand
from nnscan.provenance import code_changes, command_line, provenance
from nnscan.reconcile import COLUMNS, DATA_NAME, FINGERPRINTS, ToDo, one_trial, refuse_changed, still_to_do
from nnscan.results import store
from nnscan.results.compaction import compact
from nnscan.results.folder import ScanFolder, remedy, told, write_atomically
from nnscan.results.journal import Cause
from nnscan.results.lock import hold
from nnscan.results.progress import Follower, Progress
from nnscan.running import Decoding, Show, check_resources, launcher_for, run, shown, terminated_as_interrupted
from nnscan.scan import Scan
from nnscan.trial import Failure, Kind, Status, Trial

SHOWN_FAILURES = 3
KEY_DIGITS = 16


def quiet(progress: Progress | Decoding) -> None:
    """Show nothing."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be run, where its results lie, how it runs, and to whom it is shown."""

    scan: Scan
    folder: ScanFolder
    options: LaunchOptions
    show: Show = quiet
    code: Path = field(default_factory=Path.cwd)
    """Folder that users' modules are imported from."""
    import_path: tuple[str, ...] = ()
    """Where `code` is the copy that an earlier launch took: its import path. Else jobs of Slurm get a new copy."""
    further_jobs: int = 0
    """Jobs that will be submitted beside those of the trials: limits of the cluster must leave room for them."""


Then = Callable[[Order, Outcome], Outcome]
"""What is done when the trials were handed over, before they are waited for."""


def nothing(order: Order, outcome: Outcome) -> Outcome:  # noqa: ARG001
    """Return the outcome as it is."""
    return outcome


def launch(
    scan: Scan,
    folder: ScanFolder,
    options: LaunchOptions | None = None,
    show: Show = quiet,
    *,
    then: Then = nothing,
) -> Outcome:
    """Train every trial of `scan` that `folder` has no result of.

    Returns
    -------
    Outcome
        How it ended; Ctrl-C, and the death of Ray, are outcomes too.

    Raises
    ------
    ScanError, DataError, BusyError
        Where nothing was started: because of options, data, or another launch.
    StoreError
        Where the scan folder cannot be read or written.
    """
    folder = ScanFolder(folder.path.absolute())  # workers may start elsewhere
    further_jobs = int(then is not nothing)
    order = Order(scan=scan, folder=folder, options=options or LaunchOptions(), show=show, further_jobs=further_jobs)
    plan = expand(scan)
    with held(order) as left_alone:
        _settle(order, plan)
        to_do = _to_do(order, plan, left_alone)
        wanted = to_do.first(order.options.limit)
        follower = Follower(folder, _of(plan.table, "key", wanted) if order.options.trial else plan.table)
        together = company(_models(scan), order.options.fuse if scan.resources.processes == 1 else OFF)
        work = Work(plan, wanted, plan.trials(wanted, to_do.attempts), follower, together=together)
        work = _longest_first(work, order, to_do)
        outcome = replace(train(order, work), elsewhere=to_do.elsewhere)
    return waited(order, work, then(order, outcome))


def _models(scan: Scan) -> set[str]:
    """Return the names of the networks of a scan; "" stands for those of a training function of the user's."""
    return {branch.constants.get(("model", "name"), "") for grid in scan.grids for branch in grid.branches.values()}


def _of(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table[column], value_set=values))


@contextmanager
def held(order: Order) -> Iterator[Elsewhere]:
    """Hold the scan folder, made where it is missing; one that was made for nothing is removed.

    Who holds it knows that whoever wrote before is dead, jobs of Slurm apart, which it gives: and its launch with it,
    which is no fault of its trials.
    """
    path = order.folder.path
    _make(path)
    with hold(order.folder, command_line(), wait=order.options.wait):
        new = {file.name for file in path.iterdir()} == {order.folder.lock.name}
        try:
            left_alone = elsewhere(order.folder)
            order.folder.stop.unlink(missing_ok=True)
            order.folder.cancelled.unlink(missing_ok=True)
            store.close_journals(order.folder, lambda name: name not in left_alone.bundles, Cause.INTERRUPTED)
            remove_leftovers(order.folder, left_alone)
            yield left_alone
        except NnscanError as error:
            if new and error.exit_code == 2:
                _remove(path)
            raise


def _remove(path: Path) -> None:
    """Remove a scan folder; whoever waits for its lock finds it gone at once, or whole."""
    with suppress(OSError):
        shutil.rmtree(path.rename(path.with_name(f".{path.name}.{secrets.token_hex(8)}")))
        path.parent.rmdir()  # where it holds nothing else, it was made with it


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make {path}: {error.strerror or error}. {remedy(error)}, then launch again."
        ) from error


def _settle(order: Order, plan: Plan) -> None:
    """Bring the scan folder into order: tables wide enough and compact, the plan written."""
    store.widen(order.folder, plan.schemas())
    compact(order.folder)
    with told(order.folder.scan_file):
        write_atomically(order.folder.scan_file, order.scan.toml().encode())
    plan.write(order.folder)


def _to_do(order: Order, plan: Plan, left_alone: Elsewhere) -> ToDo:
    if order.options.trial:
        return one_trial(plan.keys(), order.options.trial)
    trials = store.read_trials(order.folder, list(COLUMNS))
    retry_failed = order.options.retry_failed
    return still_to_do(plan.keys(), trials, retry_failed=retry_failed, elsewhere=left_alone.keys)


@dataclass(frozen=True)
class Work:
    """Trials to run now."""

    plan: Plan
    """Of the scan."""
    keys: pa.Array
    trials: Iterable[Trial]
    """Those of `keys`."""
    follower: Follower
    """Follows what the user shall see: the whole scan, one trial, or the retrainings."""
    costs: Sequence[Sequence[float]] = ()
    """What trials of the list take, as `Bundles` has it."""
    together: int = 1
    """How many of them a worker is best given at a time."""


def _longest_first(work: Work, order: Order, to_do: ToDo) -> Work:
    """Return `work` with the trials first that take longest, as far as it is known: then all workers end together."""
    stretches = longest_first(work.plan, order.folder, work.keys)
    if stretches is None:
        return work
    trials = chain.from_iterable(work.plan.trials(stretch.keys, to_do.attempts) for stretch in stretches)
    stops = accumulate(len(stretch.keys) for stretch in stretches)
    return replace(work, trials=trials, costs=[(stop, one.seconds) for stop, one in zip(stops, stretches, strict=True)])


def train(order: Order, work: Work) -> Outcome:
    """Run trials in the scan folder, which the caller holds, and return how that ended; retrainings, too."""
    started = time.monotonic()
    launch = new_launch(order)
    ending = _run(order, launch, work) if len(work.keys) else _Ending()
    compact(order.folder)
    return Outcome(
        folder=order.folder,
        launched=len(work.keys),
        progress=work.follower.poll(),
        failures=_failures(order, launch.name),
        stopped=_stopped(order.folder),
        interrupted=ending.interrupted,
        error=ending.error,
        submitted=ending.submitted,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Ending:
    interrupted: bool = False
    error: str = ""
    submitted: Submitted | None = None


def _run(order: Order, launch: Launch, work: Work) -> _Ending:
    if launch.cluster == "slurm":
        return _Ending(submitted=_submit(order, launch, work))
    check_resources(launch, order.options.workers)
    try:
        with terminated_as_interrupted():
            _prepare_and_run(order, launch, work)
    except KeyboardInterrupt:
        return _Ending(interrupted=True)
    except LauncherError as error:
        return _Ending(error=str(error))
    return _Ending(error=_without_result(order, work))


def _prepare_and_run(order: Order, launch: Launch, work: Work) -> None:
    options = order.options
    workers = max(1, options.workers) if options.cluster == "inline" else options.workers
    with launcher_for(order.folder, launch, options.workers) as launcher:
        # Workers start while the data are looked at; they wait for the launch to be written.
        submission = launcher.submit(Bundles(launch.name, len(work.keys), workers, work.costs, work.together))
        _gather_weights(order)
        launch = replace(launch, accepted=_check_inputs(order, work.plan))
        launch_folder.write(order.folder, launch, work.trials, code_changes())
        with shown(work.follower, order.show):
            run(submission, order.folder)


def _submit(order: Order, launch: Launch, work: Work) -> Submitted:
    """Hand the trials to Slurm, once all that can be known of data, code and cluster is found right."""
    count, seconds = len(work.keys), seconds_of_work(work.plan, order.folder, work.keys)
    launcher = submitting.launcher(order.folder, launch, order.options)
    launcher, note = submitting.checked(replace(launcher, further_jobs=order.further_jobs), count, seconds)
    missing = _gather_weights(order)
    launch = write_for_jobs(order, launch, work)
    bundles = [bundle for array in launcher.plan(count, seconds) for bundle in array.bundles]
    launch_folder.deal(order.folder, launch.name, bundles)
    return replace(
        submitting.submit(replace(launcher, launch=launch), count, seconds), note=" ".join([note, *missing]).strip()
    )


def _gather_weights(order: Order) -> list[str]:
    """Put weights where all workers look; return which are nowhere here, as nodes of Slurm may have them all the same.

    Elsewhere these are a DataError.
    """
    missing = pretrained.gather(order.scan, order.folder.weights)
    if missing and order.options.cluster != "slurm":
        raise DataError("\n".join(missing))
    return missing


def write_for_jobs(order: Order, launch: Launch, work: Work) -> Launch:
    """Write the folder of a launch that jobs of Slurm take their trials and their code from, and return the launch."""
    accepted = _check_inputs(order, work.plan)
    path = order.import_path or snapshot.take(order.code, order.folder.launches / launch.name / "code")
    launch = replace(launch, accepted=accepted, code=str(path[0]), import_path=tuple(map(str, path)))
    launch_folder.write(order.folder, launch, work.trials, code_changes())
    return launch


def waited(order: Order, work: Work, outcome: Outcome) -> Outcome:
    """Return how the jobs ended, where the launch was asked to wait for them; else `outcome`, as it is."""
    if order.options.cluster != "slurm" or outcome.error:
        return outcome
    if not order.options.wait:
        return replace(outcome, waited=not (outcome.submitted or outcome.elsewhere))
    started = time.monotonic()
    error, interrupted = "", False
    try:
        with terminated_as_interrupted(), shown(work.follower, order.show):
            error = submitting.wait(order.folder)
        with hold(order.folder, command_line(), wait=True):
            compact(order.folder)
    except KeyboardInterrupt:
        interrupted = True
    launch = outcome.submitted.launch if outcome.submitted else ""
    return replace(
        outcome,
        progress=work.follower.poll(),
        failures=_failures(order, launch),
        stopped=_stopped(order.folder),
        interrupted=interrupted,
        error=error,
        seconds=outcome.seconds + time.monotonic() - started,
    )


def _without_result(order: Order, work: Work) -> str:
    """Say so where trials have no result although every worker came to its end; "" where all have, or were stopped."""
    trials = store.read_trials(order.folder, list(COLUMNS))
    left = int(still_to_do(work.keys, trials, retry_failed=False).wanted.sum())
    if not left or order.folder.stop.exists():
        return ""
    count, logs = f"{left} of {len(work.keys)} trials", order.folder.logs
    return f"{count} have no result, though every worker came to its end: {logs} holds their words. Launch again."


def new_launch(order: Order) -> Launch:
    """Return what the workers of a launch share."""
    scan, options = order.scan, order.options
    resources = scan.resources
    return Launch(
        name=launch_folder.new_name(),
        scan=scan.name,
        metric=scan.metric,
        code=str(order.code),
        data_root=str(scan.data_root or Path.cwd()),
        processes=resources.processes,
        nodes=resources.nodes_per_trial,
        cpus_per_trial=resources.cpus,
        gpus_per_trial=resources.gpus_per_trial,
        checkpoint_minutes=resources.checkpoint_minutes,
        checkpoint_epochs=resources.checkpoint_epochs,
        deterministic=resources.deterministic,
        fuse=options.fuse,
        cluster=options.cluster,
        address=options.address,
        profile=options.profile,
        trains_networks=trains_networks(scan.grids),
        provenance={**provenance(), **_weights_named(scan)},
    )


def _weights_named(scan: Scan) -> dict[str, dict[str, str]]:
    """Return which files stand behind the weights in settings, for people."""
    files = weight_files.names(scan.weights)
    return {"weights": {name: str(path) for name, path in files.items()}} if files else {}


def _check_inputs(order: Order, plan: Plan) -> tuple[str, ...]:
    """Return the older fingerprints that were accepted beside those of now; refuse what was not, and unfit weights.

    Results of points that are no longer in the grid are not looked at.
    """
    columns = [name for name in (DATA_NAME,) if name in plan.schemas().hyperparameters]
    trials = _of(store.read_trials(order.folder, ["trial", *FINGERPRINTS, *columns]), "trial", plan.keys())
    accepted = {old for launch in launch_folder.read_all(order.folder) for old in launch.accepted}
    if order.options.accept_changed:
        accepted |= {str(value) for name in FINGERPRINTS for value in pc.unique(trials[name]).to_pylist()}
    present = fingerprints.present(
        order.scan,
        order.folder.cache,
        order.options.download,
        lambda images, total: order.show(Decoding(images, total)),
    )
    refuse_changed(trials, present, accepted)
    pretrained.check(order.scan, order.folder.cache, order.folder.weights)
    return tuple(sorted(accepted))


def _failures(order: Order, launch: str) -> tuple[FailedTrial, ...]:
    """Return the first trials that failed in the launch of that name."""
    trials = store.read_trials(order.folder, [*COLUMNS, "kind", "family", "error", "traceback", "launch"])
    failed = pc.and_(pc.equal(trials["launch"], launch), pc.equal(trials["status"], Status.FAILED.value))
    to_be_repeated = pc.and_(pc.equal(trials["failure"], Failure.LOST.value), pc.less(trials["attempt"], TRIES))
    shown = trials.filter(pc.and_not(failed, to_be_repeated)).slice(0, SHOWN_FAILURES)
    return tuple(_failed(order, row) for row in shown.to_pylist())


def _failed(order: Order, row: Mapping[str, str]) -> FailedTrial:
    command = shlex.join([*_rerun(order, row), "--cluster", "inline", *_scan_dir(order.folder)])
    return FailedTrial(key=row["trial"], error=row["error"], traceback=row["traceback"], command=command)


def _rerun(order: Order, row: Mapping[str, str]) -> list[str]:
    if row["kind"] == Kind.RETRAINING.value:
        return ["nnscan", "retrain-best", order.folder.path.name, "--family", row["family"]]
    return ["nnscan", "launch", _here(order.folder.scan_file), "--trial", row["trial"][:KEY_DIGITS]]


def _scan_dir(folder: ScanFolder) -> list[str]:
    usual = Path.cwd() / "scans"
    return [] if folder.path.parent == usual else ["--scan-dir", _here(folder.path.parent)]


def _here(path: Path) -> str:
    """Return `path` as the working folder has it."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _stopped(folder: ScanFolder) -> str:
    with suppress(FileNotFoundError):
        return folder.stop.read_text(encoding="utf-8").strip()
    return ""
