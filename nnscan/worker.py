"""A worker: it runs the trials of one bundle, one after another, and writes what comes of them.

Every launcher ends in `run_bundle`, and where several ranks train a trial together the others end in `follow`. Nothing
is handed back: what became of a trial stands in the journal.
"""

from __future__ import annotations

import math
import os
import platform
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnscan import attempt, launch_folder
from nnscan.allocation import ENDLESS, Allocation, AllocationEndedError, Reason
from nnscan.attempt import CancelledError, Lead, NotTogetherError
from nnscan.bundles import Bundle
from nnscan.dotted import make_importable
from nnscan.failure import FAILURES_IN_A_ROW, TRIES, FailureStreak, Thrown, is_out_of_memory
from nnscan.fusing import OFF, Numbered, portions
from nnscan.identity import NUMERICS
from nnscan.launch_folder import Launch
from nnscan.pace import Pace
from nnscan.ranks import RanksLostError
from nnscan.ranks.guest import Guest, Order
from nnscan.ranks.host import Host
from nnscan.results.cancelled import read_cancelled
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.results.journal import Cause, Writer
from nnscan.results.store import close_journals, ended_in_bundle, writing
from nnscan.together import Hands, Together
from nnscan.training.function import FunctionTraining
from nnscan.training.group import ALONE, Group
from nnscan.training.place import Place, TakenOverError, choose_device, visible_gpus
from nnscan.trial import Failure, Trial
from nnscan.version import __version__

if TYPE_CHECKING:
    from nnscan.training.fusion.join import Company


@dataclass(frozen=True)
class Worker:
    """What a worker knows while it runs a bundle."""

    folder: ScanFolder
    launch: Launch
    bundle: Bundle
    place: Place
    writer: Writer
    ranks: Host | None = None
    """The others that train with it."""

    def must_end(self) -> bool:
        """Return whether it was asked to stop, or another has taken the bundle over."""
        return self.folder.stop.exists() or self.writer.closed()


def run_bundle(
    folder: Path, code: Path, bundle: Bundle, *, ranks: Host | None = None, allocation: Allocation = ENDLESS
) -> None:
    """Run the trials of `bundle` that its earlier attempts have not finished.

    Parameters
    ----------
    folder, code : Path
        The scan folder, and the folder that users' modules are imported from.
    bundle : Bundle
        Of a launch that is written.
    ranks : Host, optional
        Rank 0, which this process is then, of several that train each trial together.
    allocation : Allocation
        The time that this process was given.

    Raises
    ------
    StoreError
        Where results cannot be written: nothing that was written is lost.
    DataError
        Where the data are not there any more.
    AllocationEndedError
        Where the time that is left takes no further trial, or a signal ended it.
    RanksLostError
        Where ranks died, or threw what the others did not: `ranks` is of no use then, another attempt at the bundle
        with others goes on.
    """
    scan_folder = ScanFolder(folder)
    launch = launch_folder.read(scan_folder, bundle.launch)
    make_importable(code)
    close_journals(scan_folder, lambda name: name == bundle.name, Cause.LOST)
    device = _device(launch, 0)
    try:
        with (
            writing(scan_folder, bundle.name, _columns(launch, device)) as writer,
            allocation.telling(writer.ending),
            suppress(TakenOverError),
        ):
            place = Place(scan_folder, launch, device, writer.name, writer.closed, allocation=allocation)
            _run_trials(Worker(scan_folder, launch, bundle, place, writer, ranks))
    except AllocationEndedError as error:
        if ranks:
            ranks.ends_because = error.reason
        raise


def _run_trials(worker: Worker) -> None:
    fuse = OFF if worker.launch.processes > 1 else worker.launch.fuse
    again: list[Numbered] = []
    for portion in portions(_wanted(worker), fuse):
        run = _run_together if portion.shape else _run_apart
        again += run(worker, portion.trials)
    _run_apart(worker, [(trial, number + 1) for trial, number in again])  # with nothing else of the bundle in memory


def _wanted(worker: Worker) -> Iterator[Numbered]:
    """Yield the trials of the bundle that are left, each with the number of its attempt."""
    bundle = worker.bundle
    done, lost = ended_in_bundle(worker.folder, bundle.name)
    for trial in launch_folder.read_trials(worker.folder, bundle.launch, bundle.start, bundle.stop):
        number = max(trial.attempts, lost.get(trial.key, 0)) + 1
        if trial.key not in done and number <= TRIES:
            yield trial, number


def _run_apart(worker: Worker, trials: Iterable[Numbered]) -> list[Numbered]:
    """Make attempts one after another; return those that failed for want of memory."""
    return [
        (trial, number)
        for trial, number in trials
        if _may_begin(worker, trial) and _run_trial(worker, trial, number) is Failure.OUT_OF_MEMORY
    ]


def _run_together(worker: Worker, trials: Sequence[Numbered]) -> list[Numbered]:
    """Make attempts at trials of one shape, many at a time; return those that failed for want of memory."""
    from nnscan.training.fusion.join import Company  # torch, which these trials need

    company = Company(worker.launch.fuse, worker.folder.cache / "fusion", exact=worker.launch.deterministic)
    again: list[Numbered] = []
    left = list(trials)
    while left:
        together = Together(company, _hands(worker, company, again), deque(left))
        left = together.run()
        if together.failed is None:
            break
        print(f"a group of {company.size} could not go on: {together.failed!r}", flush=True)  # into the log
        if not is_out_of_memory(together.failed) or company.size == 1:
            return [*again, *_run_apart(worker, left)]
        company = company.smaller()
    if company.reason:
        _say_once(f"trained one by one: {company.reason}")
    return again


@cache
def _say_once(text: str) -> None:
    print(text, flush=True)  # into the worker's log


def _hands(worker: Worker, company: Company, again: list[Numbered]) -> Hands:
    """Return what is done for each trial of a group; those that fail for want of memory are added to `again`."""

    def begin(trial: Trial, number: int) -> attempt.Running:
        from nnscan.training.network import NetworkTraining

        check = partial(_check, lambda: ALONE, partial(_is_cancelled, worker, trial))
        opening = partial(_opened, company, partial(NetworkTraining.open, trial, worker.place, company.join))
        return attempt.begin(trial, number, worker.writer, opening, worker.launch.metric, Lead(check=check))

    def ended(numbered: Numbered, ending: attempt.Ending, seconds: float) -> None:
        if _ended(worker, numbered[0], ending, seconds) is Failure.OUT_OF_MEMORY:
            again.append(numbered)

    def fits(trial: Trial) -> bool:
        return _fits(worker.place.allocation, _pace(worker.folder, worker.launch.name), trial)

    def may_begin(trial: Trial) -> bool:
        _check_time(worker.place.allocation, _pace(worker.folder, worker.launch.name), trial)
        return _may_begin(worker, trial)

    return Hands(begin, fits, may_begin, ended, worker.writer.ends_together)


def _opened(company: Company, open_training: Callable[[], attempt.Training]) -> attempt.Training:
    """Return a training that joins a company; where others of it have taken the memory, that is not its fault."""
    try:
        return open_training()
    except Exception as error:
        if company.size > 1 and is_out_of_memory(error):
            raise NotTogetherError from error
        raise


def _may_begin(worker: Worker, trial: Trial) -> bool:
    return not worker.must_end() and not _is_cancelled(worker, trial)


def _is_cancelled(worker: Worker, trial: Trial) -> bool:
    return read_cancelled(worker.folder).covers(trial.key, trial.families)


def _run_trial(worker: Worker, trial: Trial, number: int) -> Failure | None:
    """Make an attempt at `trial`; return why it failed, None where it did not."""
    _check_time(worker.place.allocation, _pace(worker.folder, worker.launch.name), trial)
    started = time.monotonic()
    try:
        ending = _attempt(worker, trial, number)
    except CancelledError:
        return None
    return _ended(worker, trial, ending, time.monotonic() - started)


def _ended(worker: Worker, trial: Trial, ending: attempt.Ending, seconds: float) -> Failure | None:
    """Take note of the end of an attempt; return why it failed, None where it did not."""
    _pace(worker.folder, worker.launch.name).ended(trial, seconds)
    if worker.ranks and worker.ranks.lost:
        raise RanksLostError(worker.ranks.lost, came=worker.ranks.came)
    thrown = ending.thrown
    if _streak(worker.bundle.launch).ended(thrown) and thrown:
        _stop_scan(worker.folder, thrown)
    return thrown.failure if thrown else None


def _fits(allocation: Allocation, pace: Pace, trial: Trial) -> bool:
    """Return whether what is left of the allocation takes `trial`."""
    return not math.isfinite(allocation.ends) or allocation.fits(pace.seconds(trial))


def _check_time(allocation: Allocation, pace: Pace, trial: Trial) -> None:
    """Raise AllocationEndedError where what is left of the allocation does not take `trial`."""
    if not _fits(allocation, pace, trial):
        allocation.end(Reason.TIME_LIMIT)
    if allocation.reason:
        raise AllocationEndedError(allocation.reason)


def _attempt(worker: Worker, trial: Trial, number: int) -> attempt.Ending:
    """Make an attempt at `trial`: alone, or with the other ranks."""
    ranks = worker.ranks
    group = partial(ranks.group, worker.place.device) if ranks else lambda: ALONE
    check = partial(_check, group, partial(_is_cancelled, worker, trial))
    lead = Lead(ranks.blame, check) if ranks else Lead(check=check)
    open_training = _opener(trial, worker.place, group)
    with ranks.training(worker.bundle, trial.key, number) if ranks else nullcontext():
        return attempt.run(trial, number, worker.writer, open_training, worker.launch.metric, lead)


def _check(group: Callable[[], Group], is_cancelled: Callable[[], bool]) -> None:
    """Raise CancelledError on every rank where rank 0 finds that the trial is cancelled."""
    if group().agree(is_cancelled()):
        raise CancelledError


def _opener(trial: Trial, place: Place, group: Callable[[], Group]) -> Callable[[], attempt.Training]:
    """Return what opens the training of `trial`; what it needs is imported now, before the attempt's clock starts."""
    if "function" in trial.settings["training"]:
        return lambda: FunctionTraining(trial, replace(place, group=group()))
    from nnscan.training.network import NetworkTraining  # torch and torchvision: 3 s that a function may not need

    return lambda: NetworkTraining.open(trial, replace(place, group=group()))


def _device(launch: Launch, rank: int) -> str:
    """Return the device of a rank: of the GPUs that it sees the one with its number among the ranks of its node."""
    device = choose_device(launch.gpus_per_trial)
    if device != "cuda" or launch.processes == 1:
        return device
    number = rank % (launch.processes // launch.nodes)
    return f"cuda:{number if visible_gpus() > 1 else 0}"  # a launcher may show each rank its own alone


def follow(folder: Path, code: Path, ranks: Guest, *, allocation: Allocation = ENDLESS) -> None:
    """Make the attempts that rank 0 makes, in lockstep with it and writing nothing, until it says that this is the end.

    Raises
    ------
    AllocationEndedError
        Where it ends because the allocation does.
    RanksLostError
        Where rank 0 is gone.
    """
    make_importable(code)
    for order in ranks.orders():
        # Of these rank 0 hears in the same moment: it says what comes next.
        with suppress(TakenOverError, AllocationEndedError, CancelledError):
            _obey(ScanFolder(folder), ranks, order, allocation)


def _obey(folder: ScanFolder, ranks: Guest, order: Order, allocation: Allocation) -> None:
    try:
        launch, trials = _bundle(folder, order.bundle)
        trial, device = trials[order.trial], _device(launch, ranks.rank)
        place = Place(folder, launch, device, "", lambda: False, allocation=allocation)
        group = partial(ranks.group, order, device)
        open_training = _opener(trial, place, group)
        lead = Lead(partial(ranks.say, order), partial(_check, group, lambda: False))
        ranks.ready(order)
        attempt.run(trial, order.attempt, Nobody(), open_training, launch.metric, lead)
    except (TakenOverError, AllocationEndedError, CancelledError):
        raise
    except BaseException as error:
        ranks.say(order, error)


@lru_cache(maxsize=1)
def _bundle(folder: ScanFolder, bundle: Bundle) -> tuple[Launch, Mapping[str, Trial]]:
    """Return the launch of a bundle, and its trials by key."""
    trials = launch_folder.read_trials(folder, bundle.launch, bundle.start, bundle.stop)
    return launch_folder.read(folder, bundle.launch), {trial.key: trial for trial in trials}


class Nobody:
    """Takes the rows of a rank that writes nothing: rank 0 writes the same."""

    def start(self, row: Mapping[str, Any]) -> None:
        """Pass over it."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Pass over it."""

    def steps(self, row: Mapping[str, Any]) -> None:
        """Pass over it."""

    def end(self, row: Mapping[str, Any]) -> None:
        """Pass over it."""

    def interrupted(self, trial: str, reason: str = "") -> None:
        """Pass over it."""


@cache
def _pace(folder: ScanFolder, launch: str) -> Pace:  # noqa: ARG001
    """Return the one of a launch: small bundles share a process."""
    return Pace(folder)


@cache
def _streak(launch: str) -> FailureStreak:  # noqa: ARG001
    """Return the one of a launch: small bundles share a process, and so their failures add up."""
    return FailureStreak()


def _stop_scan(folder: ScanFolder, thrown: Thrown) -> None:
    text = f"{FAILURES_IN_A_ROW} trials in a row failed alike: {thrown.error}\nat {thrown.place}\n"
    with told(folder.stop):
        write_atomically(folder.stop, text.encode())


def _columns(launch: Launch, device: str) -> dict[str, Any]:
    """Return what the rows say of the place."""
    return {
        "launch": launch.name,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": device,
        "threads": launch.threads,
        "processes": launch.processes,
        "fused": 1,
        "nnscan_version": __version__,
        "torch_version": version("torch"),
        "python_version": platform.python_version(),
        "numerics": NUMERICS,
    }
