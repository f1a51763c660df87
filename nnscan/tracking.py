"""Handing the epochs of a scan to trackers, from a process that reads the scan folder: the launching one, or another.

Workers know nothing of it: they write their journals, whoever reads them.
"""

from __future__ import annotations

import fcntl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nnscan import keys
from nnscan.errors import BusyError, NnscanError, Problem, ScanError
from nnscan.plan import read_axes, read_columns
from nnscan.results.asked import asked
from nnscan.results.feed import Feed, Selection, selected
from nnscan.results.folder import ScanFolder, told
from nnscan.results.journal import names_in
from nnscan.results.progress import PLAN_COLUMNS, Follower
from nnscan.trackers import Tracker

POLL_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class TrackOptions:
    """Which trials are tracked, and where."""

    tensorboard: bool = False
    wandb: str = ""
    """Project of Weights & Biases, `PROJECT` or `ENTITY/PROJECT`; "" for none."""
    to: Path | None = None
    """Folder of event files; without it `tensorboard/` of the scan folder."""
    families: tuple[str, ...] = ()
    """Only these; without any, all."""
    top: int = 0
    """Only trials of so many best configurations of each family; 0: all."""

    @property
    def asks(self) -> bool:
        """Whether anything is to be tracked at all."""
        return self.tensorboard or bool(self.wandb)


def check(options: TrackOptions, trials: int) -> None:
    """Raise ScanError where a tracker cannot be opened, or takes fewer than so many trials."""
    problems = [problem for name, most in _most(options) for problem in _too_many(name, most, trials)]
    problems += _without_wandb() if options.wandb else []
    if problems:
        raise ScanError("trackers", problems)


def _most(options: TrackOptions) -> Iterator[tuple[str, int]]:
    """Yield the trackers that are asked for, by their options, with how many trials they take."""
    if options.tensorboard:
        from nnscan.trackers.tensorboard import TensorBoard

        yield "--tensorboard", TensorBoard.most
    if options.wandb:
        from nnscan.trackers.wandb import WeightsAndBiases

        yield "--wandb", WeightsAndBiases.most


def _without_wandb() -> list[Problem]:
    from nnscan.trackers.wandb import problems

    return list(problems())


def _too_many(option: str, most: int, trials: int) -> Iterator[Problem]:
    if trials > most:
        message = (
            f"{trials:,} trials are more than the {most:,} runs that can be looked at. Track fewer: `nnscan track`"
        )
        yield Problem(option, f"{message} with --family NAME, or --top N for the N best configurations of each family.")


@contextmanager
def opened(folder: ScanFolder, options: TrackOptions) -> Iterator[list[Tracker]]:
    """Give the trackers that are asked for; nobody else writes where they write.

    Raises
    ------
    BusyError
        Where another process does.
    """
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        if options.tensorboard:
            from nnscan.trackers.tensorboard import TensorBoard

            home = options.to or folder.tensorboard
            stack.enter_context(_held(home))
            trackers.append(TensorBoard(home, _varied(folder)))
        if options.wandb:
            from nnscan.trackers.wandb import WeightsAndBiases

            stack.enter_context(_held(folder.wandb))
            trackers.append(WeightsAndBiases(folder, options.wandb, asked(folder).name))
        for tracker in trackers:
            stack.callback(tracker.close)
        yield trackers


def _varied(folder: ScanFolder) -> set[str]:
    return {path for axes in read_axes(folder).values() for path in axes}


@contextmanager
def _held(home: Path) -> Iterator[None]:
    """Hold the folder that a tracker writes in; the system lets go of it when the process dies."""
    path = home / ".lock"
    with told(path):
        home.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = "is written by another nnscan: a launch with --tensorboard or --wandb, or `nnscan track --follow`"
            raise BusyError(f"{home} {message}. End that, or look at what it writes.") from error
        yield


class Tracking:
    """Hands what is new in a scan to trackers, each time it is asked to."""

    def __init__(self, folder: ScanFolder, options: TrackOptions, trackers: Sequence[Tracker]) -> None:
        self._folder, self._options, self._trackers = folder, options, trackers
        self._feeds: list[Feed] = []
        self._planned = 0
        self.trials = 0
        """That are tracked: those of the plan."""

    def poll(self) -> None:
        """Hand over what is new; where another launch wrote another plan, its trials."""
        planned = self._folder.plan.stat().st_mtime_ns if self._folder.plan.exists() else 0
        if planned != self._planned:
            selection = select(self._folder, self._options)
            self._feeds, self._planned = [Feed(self._folder, selection) for _ in self._trackers], planned
            self.trials = len(selection.keys)
        for tracker, feed in zip(self._trackers, self._feeds, strict=False):
            for track in feed.poll(tracker.has):
                tracker.take(track)
            tracker.flush()

    def lines(self) -> Iterator[str]:
        """Yield what to type to look at what was tracked."""
        for tracker in self._trackers:
            yield from tracker.hint()


def select(folder: ScanFolder, options: TrackOptions) -> Selection:
    """Return the trials of a scan that are tracked.

    Raises
    ------
    ScanError
        Where there is no such family, or a tracker takes fewer trials.
    """
    problems = list(keys.unknown_families(folder, options.families)) if options.families else []
    if problems:
        raise ScanError(str(folder.path), problems)
    configurations = None
    if options.top:
        follower = Follower(folder, metric=asked(folder).metric)
        follower.poll()
        configurations = follower.leading(options.top)
    selection = selected(read_columns(folder, PLAN_COLUMNS), options.families, configurations)
    check(options, len(selection.keys))
    return selection


@dataclass
class Followed:
    """How a tracking beside a launch went."""

    error: str = ""
    lines: list[str] = field(default_factory=list)


@contextmanager
def followed(folder: ScanFolder, options: TrackOptions) -> Iterator[Followed]:
    """Track in a thread of this process while the block runs, which launches the scan.

    It begins when the launch has found everything right: before, nothing is written. What goes wrong with it ends the
    tracking alone, and is told in what is given.
    """
    result, over = Followed(), threading.Event()
    before = set(names_in(folder.launches))
    thread = threading.Thread(target=_follow, args=(folder, options, before, over, result), daemon=True)
    thread.start()
    try:
        yield result
    finally:
        over.set()
        thread.join()


def _follow(
    folder: ScanFolder, options: TrackOptions, before: set[str], over: threading.Event, result: Followed
) -> None:
    while not (has_begun := _has_begun(folder, before)) and not over.wait(POLL_SECONDS / 10):
        pass
    if not has_begun and not before:
        return  # nothing was ever launched there
    try:
        with opened(folder, options) as trackers:
            tracking = Tracking(folder, options, trackers)
            tracking.poll()
            while not over.wait(POLL_SECONDS):
                tracking.poll()
            tracking.poll()
            result.lines = list(tracking.lines())
    except (NnscanError, OSError) as error:
        result.error = str(error)
    except Exception as error:  # a tracker's package throws what it meets: told, it ends no launch
        result.error = f"{type(error).__name__}: {error}"


def _has_begun(folder: ScanFolder, before: set[str]) -> bool:
    new = set(names_in(folder.launches)) - before
    return any((folder.launches / name / "launch.json").exists() for name in new)


def track(folder: ScanFolder, options: TrackOptions) -> tuple[int, list[str]]:
    """Hand all there is of a scan to trackers, once; return how many trials that is, and what to type to look at them.

    Raises
    ------
    ScanError
        Where there is no such family, or too many trials for a tracker.
    BusyError
        Where another process writes the same.
    """
    select(folder, options)  # before anything is written
    with opened(folder, options) as trackers:
        tracking = Tracking(folder, options, trackers)
        tracking.poll()
        return tracking.trials, list(tracking.lines())


@contextmanager
def tracked(folder: ScanFolder, options: TrackOptions) -> Iterator[Tracking]:
    """Give a tracking of a scan that runs elsewhere; whoever follows the scan polls it."""
    select(folder, options)
    with opened(folder, options) as trackers:
        yield Tracking(folder, options, trackers)


class Paced:
    """Polls a tracking about every two seconds, however often it is called."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking
        self._due = 0.0

    def __call__(self) -> None:
        """Poll, where it is time."""
        if time.monotonic() >= self._due:
            self._tracking.poll()
            self._due = time.monotonic() + POLL_SECONDS
