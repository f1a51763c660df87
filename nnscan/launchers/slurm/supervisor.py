"""What runs in the script of a job: a light process that runs step after step until its bundle is done.

It imports neither torch nor Ray nor submitit. What became of a step it takes from the journals, and from what rank 0
wrote at last, never from an exit status: srun ends with 0 where a node failed (measured with 22.05).
"""

from __future__ import annotations

import math
import os
import platform
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nnscan import attempt, launch_folder
from nnscan.allocation import Allocation, Reason, end_on
from nnscan.bundles import Bundle
from nnscan.errors import LauncherError, NnscanError
from nnscan.failure import FAILURES_IN_A_ROW, TRIES
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm import jobs as slurm_jobs
from nnscan.launchers.slurm import step as slurm_step
from nnscan.launchers.slurm.claim import Claim
from nnscan.launchers.slurm.command import SlurmError
from nnscan.launchers.slurm.own_job import OwnJob, Time, is_away
from nnscan.launchers.slurm.step import Ending, Logs, Step, cause_of_death, take_ending, unfinished
from nnscan.provenance import package_version
from nnscan.results.cancelled import read_cancelled
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Death
from nnscan.results.store import close_journals, ended_in_bundle, writing
from nnscan.trial import Trial
from nnscan.version import __version__

VISIBLE_SECONDS = 60.0
"""For a launch to be seen: what one client of a network file system wrote, another may see half a minute later."""

STARTS_IN_VAIN = 4
"""Steps in a row that brought no trial on, after which the bundle is given up: its workers cannot start here."""

DEATHS_IN_A_ROW = FAILURES_IN_A_ROW * TRIES
"""Steps in a row without any result, after which the bundle is given up: that is no fault of its trials."""

ALLOCATIONS_IN_VAIN = 2
"""Whole allocations in a row that brought a trial no further, after which it is given up."""

LIVES_IN_VAIN = 3
"""Lives of the job in a row whose time was over before a trial began, after which the bundle is given up."""

SIGNAL_SECONDS = 60
"""Of a job whose profile is not known."""

REQUEUE_SECONDS = 5.0
"""Before its time is over a job is queued again in any case: one that runs into its limit is not (TIMEOUT is final)."""

EARLY_SECONDS = 60.0
"""So much earlier than asked Slurm may signal that the time is nearly over (`man sbatch`, --signal)."""

GRACE_SECONDS = 900.0
"""A job whose ranks got SIGTERM waits so long for its own end, then it goes on. Where it did not wait it would end as
one that is done, and Slurm would not queue it again. GraceTime is minutes, where it is set."""

PAUSE_SECONDS = 1.0
"""Before the step after one in vain; the next pauses are longer by as much."""

WAIT_SECONDS = 0.1

END_SECONDS = 120.0
"""For Slurm to end a job that is queued again: KillWait is 30 s by default."""


def supervise(folder: str, launch: str, start: int, stop: int) -> NoReturn:
    """Run the trials `start` to `stop` of `launch` in the job that this process runs in, and leave the process.

    The exit status is 0 where the bundle came to its end or goes on in another life of the job. It is 1 where
    something stands in the way that is no trial's fault: stdout and `launches/<launch>/bundles/<start>.json` say what.
    """
    status = 1
    try:
        status = _supervise(ScanFolder(Path(folder)), Bundle(launch, start, stop))
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    os._exit(status)  # submitit, which called this, would pickle a result


def _supervise(folder: ScanFolder, bundle: Bundle) -> int:
    signal.signal(signal.SIGCONT, signal.SIG_DFL)  # submitit writes a line for each
    allocation = Allocation()
    end_on(allocation, {signal.SIGTERM: Reason.TERMINATED})
    if not _sees(folder, bundle):
        return 1
    claim = Claim(folder, bundle, OwnJob.here())
    say(f"{bundle.name} in job {claim.job.number}, life {claim.job.restart}, on {socket.gethostname()}")
    if not claim.make():
        return 0
    try:
        Supervisor.here(claim, allocation).run()
    except EndedError as ended:
        return 0 if ended.error is None else _end(claim, ended.error)
    except NnscanError as error:
        return _end(claim, str(error))
    except Exception:
        return _end(claim, traceback.format_exc())


def _sees(folder: ScanFolder, bundle: Bundle) -> bool:
    """Return whether the launch is there; wait a while for it."""
    path = folder.launches / bundle.launch / "launch.json"
    deadline = time.monotonic() + VISIBLE_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            say(f"{socket.gethostname()} does not see {path}: keep the scan where all nodes see it (--scan-dir)")
            return False
        time.sleep(launch_folder.POLL_SECONDS)
    return True


def _end(claim: Claim, error: str) -> int:
    """Say how the bundle ended, and remove what submitit wrote for this job; its log stays where it tells an error."""
    if error:
        say(error)
    claim.end(error)
    for path in (claim.folder.launches / claim.bundle.launch / "submitit").glob(f"{claim.job.number}_*"):
        if not (error and path.suffix == ".out"):
            path.unlink(missing_ok=True)
    return int(bool(error))


def say(words: str) -> None:
    """Say something in the job's own log."""
    print(f"nnscan {time.strftime('%H:%M:%S')}: {words}", flush=True)


class EndedError(Exception):
    """There is no more to do here."""

    def __init__(self, error: str | None) -> None:
        super().__init__(error)
        self.error = error
        """What ended the bundle for good, "" where every trial has a result; None where it goes on elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Hours:
    """The time of this life of the job, in unix seconds by the clock of this host."""

    ends: float = math.inf
    """When Slurm signals that its time is nearly over: a trial must have ended."""
    killed: float = math.inf
    """When it is over."""
    seconds: float = math.inf
    """That trials can use of a whole life."""

    @classmethod
    def of(cls, told: Time, signal_seconds: float) -> Hours:
        """Return those of a job that now has the time that Slurm `told`."""
        killed = time.time() + told.left
        return cls(ends=killed - signal_seconds, killed=killed, seconds=told.limit - signal_seconds)


@dataclass(frozen=True)
class Ran:
    """A step that ran."""

    said: list[str]
    """Last lines of srun."""
    logs: Logs
    came: bool
    """False where its ranks never came together."""

    @property
    def told(self) -> str:
        """Why it ended, and the last words of it."""
        death = cause_of_death(self.said, self.logs)
        return f"{death.error}\n{death.traceback}"


@dataclass
class Supervisor:
    """Runs the steps of a bundle that this process has claimed."""

    claim: Claim
    launch: Launch
    allocation: Allocation
    """Ends where this process gets SIGTERM: Slurm ends the job, or queues it again."""
    hours: Hours
    further: tuple[str, ...] = ()
    """More arguments of srun."""
    number: int = 0
    """Of the next step."""
    in_vain: int = 0
    """Steps in a row that brought no trial on."""
    deaths: int = 0
    """Steps in a row in which no trial got a result."""
    asked: bool = False
    """Whether Slurm was asked to queue the job again while a step ran."""
    began: tuple[object, ...] = ()
    """What was known of the trials when this life began."""

    @classmethod
    def here(cls, claim: Claim, allocation: Allocation) -> Supervisor:
        """Return the one of this process; NnscanError where the launch cannot be gone on with here."""
        launch = launch_folder.read(claim.folder, claim.bundle.launch)
        check_versions(launch)
        jobs = slurm_jobs.read(claim.folder, launch.name)
        profile = jobs.profile if jobs else {}
        hours = Hours.of(claim.job.time(), profile.get("signal_seconds", SIGNAL_SECONDS))
        return cls(claim, launch, allocation, hours, tuple(profile.get("srun", ())))

    @property
    def folder(self) -> ScanFolder:
        """The scan folder."""
        return self.claim.folder

    def run(self) -> NoReturn:
        """Run step after step until there is no more to do: EndedError says why."""
        self._close(Cause.INTERRUPTED)  # what an earlier life of the job left open: its end was no trial's fault
        self.began = self._known()
        while True:
            self._check()
            before = self._progress()
            ran = self._step()
            self._judge(ran, before, self._progress())

    def _check(self) -> None:
        """Raise EndedError where no further step is to run here."""
        if self.allocation.reason or not self.claim.holds():
            raise EndedError(None)
        if self.folder.stop.exists() or not self._left():
            raise EndedError("")
        if self.number and time.time() >= self.hours.ends:
            self._go_on_later()

    def _step(self) -> Ran:
        """Run a step, do what its end asks for, and return what is told of it."""
        step = self._next_step()
        self.folder.logs.mkdir(exist_ok=True)  # srun starts no process whose output has no folder
        logs = Logs.before([step.log(rank) for rank in range(self.launch.processes)])
        arguments = slurm_step.command(step, self.launch, self.further)
        said = slurm_step.run(arguments, self.launch.threads, self._look)
        ending = take_ending(step)
        if not self.claim.holds() or (self.allocation.reason and not (ending and ending.error)):
            raise EndedError(None)
        if ending is None:
            self._close(Cause.LOST, cause_of_death(said, logs))
        else:
            self._obey(ending)
        return Ran(said, logs, came=ending is None or ending.came)

    def _next_step(self) -> Step:
        job, hours, number = self.claim.job, self.hours, self.number
        self.number += 1
        return Step(self.folder.path, self.claim.bundle, job.number, job.restart, number, hours.ends, hours.seconds)

    def _look(self) -> None:
        """Queue the job again while a step runs, where that does not end in time by itself."""
        if time.time() >= self.hours.killed - REQUEUE_SECONDS and not self.asked and self.claim.holds():
            self.asked = True
            stopped = unfinished(self.folder, self.claim.bundle.name)
            self._note_stops([key for key, first in stopped if first and self.number == 1])
            self._requeue()

    def _obey(self, ending: Ending) -> None:
        if ending.error:
            raise EndedError(ending.error)
        if ending.reason == Reason.TIME_LIMIT:
            self._note_stops([ending.stopped] if ending.whole else [])
            if self._left():
                self._go_on_later()
        elif ending.reason == Reason.TERMINATED:
            self._outlive()

    def _go_on_later(self) -> NoReturn:
        """Have the job queued again, and wait for its end."""
        if not self.asked and self.claim.holds():
            self._requeue()
        self._wait(END_SECONDS)
        raise EndedError(None)

    def _requeue(self) -> None:
        say("it goes on in the next life of the job")
        if self._time_is_near() and self.claim.idle(self._known() == self.began) >= LIVES_IN_VAIN:
            raise EndedError(
                f"{LIVES_IN_VAIN} lives of the job, of {self.hours.seconds:.0f} s each, brought no trial on: their"
                " time was over before one began. Give jobs more (time in the profile), then launch again."
            )
        try:
            self.claim.job.requeue()
        except SlurmError as error:
            raise EndedError(f"the job's time is over, and it is not queued again: {error}. Launch again.") from error

    def _outlive(self) -> None:
        """Wait for the end of the job, whose ranks were told of it; return where it does not come."""
        say("its ranks were told to end: preempted, or cancelled")
        self._wait(min(GRACE_SECONDS, self.hours.killed - REQUEUE_SECONDS - time.time()))

    def _wait(self, seconds: float) -> None:
        """Wait until Slurm ends the job."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.allocation.reason:
            time.sleep(WAIT_SECONDS)

    def _left(self) -> list[Trial]:
        """Return the trials of the bundle that are to be run."""
        bundle, cancelled = self.claim.bundle, read_cancelled(self.folder)
        done, lost = ended_in_bundle(self.folder, bundle.name)
        trials = launch_folder.read_trials(self.folder, bundle.launch, bundle.start, bundle.stop)
        return [
            trial
            for trial in trials
            if trial.key not in done
            and max(trial.attempts, lost.get(trial.key, 0)) < TRIES
            and not cancelled.covers(trial.key, trial.families)
        ]

    def _progress(self) -> tuple[int, int]:
        """Return how many trials of the bundle ended, and how many attempts were lost."""
        done, lost = ended_in_bundle(self.folder, self.claim.bundle.name)
        return len(done), sum(lost.values())

    def _known(self) -> tuple[object, ...]:
        return (*self._progress(), dict(self.claim.stops))

    def _time_is_near(self) -> bool:
        """Return whether a signal may have come because of the time: else by hand, or as it suited the scheduler."""
        return time.time() >= self.hours.ends - EARLY_SECONDS

    def _close(self, cause: Cause, death: Death | None = None) -> None:
        close_journals(self.folder, lambda name: name == self.claim.bundle.name, cause, death)

    def _judge(self, ran: Ran, before: tuple[int, int], after: tuple[int, int]) -> None:
        """Raise EndedError where step after step brings no trial on, as where workers cannot start here."""
        if after == before and any(map(is_away, ran.said)):  # no step could be made: no fault of its workers
            self.claim.job.time()  # waits for the controller
            return
        self.deaths = self.deaths + 1 if after[0] == before[0] else 0
        self.in_vain = self.in_vain + 1 if after == before or not ran.came else 0
        if self.in_vain >= STARTS_IN_VAIN:
            raise EndedError(f"{self.in_vain} steps in a row brought no trial on: {ran.told}")
        if self.deaths >= DEATHS_IN_A_ROW:
            raise EndedError(f"{self.deaths} steps in a row died without a result: {ran.told}")
        time.sleep(self.in_vain * PAUSE_SECONDS)

    def _note_stops(self, keys: Sequence[str]) -> None:
        """Take note of trials that the end of a whole allocation stopped; what gets nowhere so is given up."""
        if not self._time_is_near():
            return
        trials = {trial.key: trial for trial in self._left()}
        for key in trials.keys() & set(keys):
            count = self.claim.stopped(key, newest_steps(self.folder, key))
            if count >= ALLOCATIONS_IN_VAIN:
                self._give_up(trials[key], count)

    def _give_up(self, trial: Trial, allocations: int) -> None:
        error = NeverEndsError(never_ends(trial, allocations, self.hours.seconds))

        def throw() -> NoReturn:
            raise error

        number = max(trial.attempts, ended_in_bundle(self.folder, self.claim.bundle.name)[1].get(trial.key, 0)) + 1
        place = {"launch": self.launch.name, "host": socket.gethostname(), "pid": os.getpid()}
        with writing(self.folder, self.claim.bundle.name, place) as writer:
            attempt.run(trial, number, writer, throw, self.launch.metric)
        say(f"{trial.key}: {error}")


class NeverEndsError(Exception):
    """A trial that whole allocations do not bring any further."""


def never_ends(trial: Trial, allocations: int, seconds: float) -> str:
    """Return what to say of a trial that so many allocations, of so many usable seconds each, got no further."""
    what = "a user's function, which begins anew each time," if "function" in trial.settings["training"] else "it"
    return (
        f"{what} got no further in {allocations} whole jobs of {seconds:.0f} s each. Give jobs more time (time in the"
        " profile), then launch with --retry-failed."
    )


def newest_steps(folder: ScanFolder, key: str) -> int:
    """Return the steps of a trial's newest checkpoint, `<trial>.<writer>.<steps>.pt`; -1 where there is none."""
    names = (path.name.split(".") for path in folder.checkpoints.glob(f"{key}.*.pt"))
    return max((int(parts[2]) for parts in names if len(parts) == 4 and parts[2].isdecimal()), default=-1)


CHECKED = {"nnscan": __version__, "python": platform.python_version()}
PACKAGES = ("torch", "numpy")


def check_versions(launch: Launch) -> None:
    """Raise LauncherError where this environment is another than that which launched: other numbers would come out."""
    here = {**CHECKED, **{name: package_version(name) for name in PACKAGES}}
    asked = {name: str(launch.provenance[name]) for name in here if name in launch.provenance}
    wrong = [
        f"{name} {here[name] or 'is missing'} (launched with {asked[name]})"
        for name in asked
        if asked[name] != here[name]
    ]
    if wrong:
        raise LauncherError(
            f"the environment on {socket.gethostname()} is not the one that launched: {', '.join(wrong)}. Let the"
            " profile name the same interpreter (python), or launch again from the one that is there now."
        )
