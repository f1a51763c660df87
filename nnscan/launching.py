"""A launch: what a scan still lacks is found, handed to a launcher, watched, and told.

The grid is desired state, so the same call starts a scan, resumes it, retries what failed and extends it.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nnscan import fingerprints, launch_folder
from nnscan.bundles import Bundles
from nnscan.errors import LauncherError, NnscanError, StoreError
from nnscan.failure import TRIES
from nnscan.grid import trains_networks
from nnscan.launch_folder import Launch
from nnscan.launch_options import FailedTrial, LaunchOptions, Outcome
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


def launch(scan: Scan, folder: ScanFolder, options: LaunchOptions | None = None, show: Show = quiet) -> Outcome:
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
    order = Order(scan=scan, folder=folder, options=options or LaunchOptions(), show=show)
    plan = expand(scan)
    with held(order):
        _settle(order, plan)
        to_do = _to_do(order, plan)
        wanted = to_do.first(order.options.limit)
        follower = Follower(folder, _of(plan.table, "key", wanted) if order.options.trial else plan.table)
        return train(order, Work(plan, wanted, plan.trials(wanted, to_do.attempts), follower))


def _of(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    return table.filter(pc.is_in(table[column], value_set=values))


@contextmanager
def held(order: Order) -> Iterator[None]:
    """Hold the scan folder, made where it is missing; one that was made for nothing is removed.

    Who holds it knows that whoever wrote before is dead: and its launch with it, which is no fault of its trials.
    """
    path = order.folder.path
    _make(path)
    with hold(order.folder, command_line(), wait=order.options.wait):
        new = {file.name for file in path.iterdir()} == {order.folder.lock.name}
        try:
            order.folder.stop.unlink(missing_ok=True)
            store.close_journals(order.folder, lambda _: True, Cause.INTERRUPTED)
            yield
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


def _to_do(order: Order, plan: Plan) -> ToDo:
    if order.options.trial:
        return one_trial(plan.keys(), order.options.trial)
    trials = store.read_trials(order.folder, list(COLUMNS))
    return still_to_do(plan.keys(), trials, retry_failed=order.options.retry_failed)


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


def train(order: Order, work: Work) -> Outcome:
    """Run trials in the scan folder, which the caller holds, and return how that ended; retrainings, too."""
    started = time.monotonic()
    launch = _launch(order)
    ending = _run(order, launch, work) if len(work.keys) else _Ending()
    compact(order.folder)
    return Outcome(
        folder=order.folder,
        launched=len(work.keys),
        progress=work.follower.poll(),
        failures=_failures(order, launch),
        stopped=_stopped(order.folder),
        interrupted=ending.interrupted,
        error=ending.error,
        seconds=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Ending:
    interrupted: bool = False
    error: str = ""


def _run(order: Order, launch: Launch, work: Work) -> _Ending:
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
    workers = 1 if options.cluster == "inline" else options.workers
    with launcher_for(order.folder, launch, options.workers) as launcher:
        # Workers start while the data are looked at; they wait for the launch to be written.
        submission = launcher.submit(Bundles(launch.name, len(work.keys), workers))
        launch = replace(launch, accepted=_check_fingerprints(order, work.plan))
        launch_folder.write(order.folder, launch, work.trials, code_changes())
        with shown(work.follower, order.show):
            run(submission, order.folder)


def _without_result(order: Order, work: Work) -> str:
    """Say so where trials have no result although every worker came to its end; "" where all have, or were stopped."""
    trials = store.read_trials(order.folder, list(COLUMNS))
    left = int(still_to_do(work.keys, trials, retry_failed=False).wanted.sum())
    if not left or order.folder.stop.exists():
        return ""
    count, logs = f"{left} of {len(work.keys)} trials", order.folder.logs
    return f"{count} have no result, though every worker came to its end: {logs} holds their words. Launch again."


def _launch(order: Order) -> Launch:
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
        cluster=options.cluster,
        address=options.address,
        trains_networks=trains_networks(scan.grids),
        provenance=provenance(),
    )


def _check_fingerprints(order: Order, plan: Plan) -> tuple[str, ...]:
    """Return the older fingerprints that were accepted beside those of now; refuse what was not.

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
    return tuple(sorted(accepted))


def _failures(order: Order, launch: Launch) -> tuple[FailedTrial, ...]:
    """Return the first trials that failed in `launch`."""
    trials = store.read_trials(order.folder, [*COLUMNS, "kind", "family", "error", "traceback", "launch"])
    failed = pc.and_(pc.equal(trials["launch"], launch.name), pc.equal(trials["status"], Status.FAILED.value))
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
