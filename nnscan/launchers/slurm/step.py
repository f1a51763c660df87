"""A step of a job: one attempt at a bundle, by the processes that srun starts, and what became of it."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nnscan.bundles import Bundle
from nnscan.launch_folder import Launch
from nnscan.results.attempts import attempts
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.results.journal import DETAILS, Death, counted, journals, read_rows

LEFT_BEHIND_SECONDS = 60
"""That the other ranks have when the first of a step has ended; Slurm by itself waits for ever (WaitTime = 0)."""

LOOK_SECONDS = 1.0
WORDS_LINES = 30
"""Last lines of a log that stand in the row of a lost trial."""
WORDS_BYTES = 16_384

_OF_A_TASK = re.compile(r"\btasks? ([\d,-]+): (.+)$")
_ABORTED = "Job step aborted"
"""Says srun where Slurm ends the job, or the step."""
_MEMORY = re.compile(r"memory limit|oom.?kill|out of memory", re.IGNORECASE)
_OF_SLURM = re.compile(r"^(slurmstepd|srun)[^:]*: (error: )?")


@dataclass(frozen=True)
class Step:
    """What the processes of a step are told."""

    folder: Path
    """The scan folder."""
    bundle: Bundle
    job: str
    """Number of the job."""
    restart: int
    """How often the job was queued again: each of its lives has files of its own, as two may be at once."""
    number: int
    """Of the step in this life, from 0."""
    ends: float
    """When its time is over, unix seconds by the clock of the supervisor's host."""
    seconds: float
    """Length of a whole allocation."""

    def arguments(self) -> list[str]:
        """Return it for a command line."""
        bundle = (self.bundle.launch, self.bundle.start, self.bundle.stop)
        own = (self.job, self.restart, self.number, self.ends, self.seconds)
        return [str(value) for value in (self.folder, *bundle, *own)]

    @classmethod
    def of(cls, arguments: Sequence[str]) -> Step:
        """Return the step that `arguments` tell."""
        folder, launch, start, stop, job, *numbers, ends, seconds = arguments
        restart, number = map(int, numbers)
        bundle = Bundle(launch, int(start), int(stop))
        return cls(Path(folder), bundle, job, restart, number, float(ends), float(seconds))

    @property
    def name(self) -> str:
        """Name of its files: unique."""
        return f"{self.bundle.name}.{self.job}.{self.restart}.{self.number}"

    def log(self, rank: int | str) -> Path:
        """Return the log of a rank: `<bundle>.<rank>.log`, with the number of the restart where there was one."""
        life = f".{self.restart}" if self.restart else ""
        return ScanFolder(self.folder).logs / f"{self.bundle.name}.{rank}{life}.log"

    @property
    def meetings(self) -> Path:
        """Folder of the files below, which last as long as the step."""
        return self.folder / "launches" / self.bundle.launch / "meetings"

    @property
    def meeting(self) -> Path:
        """Where rank 0 says at which address it is to be met."""
        return self.meetings / f"{self.name}.json"

    @property
    def ending(self) -> Path:
        """Where rank 0 says at last how it ended: srun's exit status does not (0 after a node's failure, measured)."""
        return self.meetings / f"{self.name}.ending.json"


@dataclass(frozen=True)
class Ending:
    """How rank 0 of a step ended, by its own word."""

    reason: str = ""
    """Of `nnscan.allocation.Reason`, where the allocation ends; "" where the step came to its end."""
    error: str = ""
    """What is no trial's fault and would come again; "" where there was none."""
    stopped: str = ""
    """Key of the trial that the end of the allocation stopped; "" for none."""
    whole: bool = False
    """Whether that trial was the first of the allocation: it had all the time there is."""
    came: bool = True
    """Whether the ranks came together, at least once."""

    def write(self, step: Step) -> None:
        """Tell the supervisor."""
        with told(step.ending):
            step.meetings.mkdir(exist_ok=True)
            write_atomically(step.ending, json.dumps(asdict(self)).encode())


def take_ending(step: Step) -> Ending | None:
    """Return how rank 0 ended and remove the files of the step; None where it died without a word."""
    try:
        return Ending(**json.loads(step.ending.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    finally:
        step.ending.unlink(missing_ok=True)
        step.meeting.unlink(missing_ok=True)


def command(step: Step, launch: Launch, further: Sequence[str] = ()) -> list[str]:
    """Return the command that starts the processes of `step`, one a rank.

    Parameters
    ----------
    step : Step
        What they are told.
    launch : Launch
        How many there are, on how many nodes, with how many threads.
    further : sequence of str
        More arguments of srun.
    """
    return [
        "srun",
        f"--ntasks={launch.processes}",
        f"--nodes={launch.nodes}",
        f"--cpus-per-task={launch.threads}",
        "--kill-on-bad-exit=1",
        f"--wait={LEFT_BEHIND_SECONDS}",
        "--export=ALL",  # else an sbatch with --export=NONE would start them without PYTHONPATH
        f"--output={_escaped(step.log('%t'))}",
        "--open-mode=append",
        "--input=none",
        *further,
        sys.executable,
        "-m",
        "nnscan.launchers.slurm.rank",
        *step.arguments(),
    ]


def _escaped(path: Path) -> str:
    """Return `path` as srun takes it, whose file names know "%" signs of their own; that of the task stays."""
    return str(path.parent).replace("%", "%%") + f"/{path.name}"


def run(arguments: Sequence[str], threads: int, look: Callable[[], None]) -> list[str]:
    """Run srun with `arguments` and return the last lines that it said; `look` is called every second meanwhile.

    `setsid --fork` takes srun out of the tree of this process. Where a job is cancelled or queued again under
    `proctrack/linuxproc`, every process below its script gets SIGTERM, and at that srun kills its tasks within 10 ms
    (measured): they would have KillWait, 30 s, to save. Other plugins signal the script's own shell alone. It cannot
    be waited for then: that it has ended tells the pipe, which nobody else holds; its exit status is of no use.
    """
    words: deque[str] = deque(maxlen=WORDS_LINES)
    with subprocess.Popen(  # noqa: S603
        ["setsid", "--fork", *arguments],  # noqa: S607
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"OMP_NUM_THREADS": str(threads), **os.environ},
    ) as started:
        assert started.stdout is not None
        for line in _lines(started.stdout.fileno(), look):
            words.append(line)
            print(line, flush=True)
    return list(words)


def _lines(descriptor: int, look: Callable[[], None]) -> Iterator[str]:
    """Yield the lines that come, until nobody writes any more."""
    rest, looked = b"", time.monotonic()
    while True:
        ready, _, _ = select.select([descriptor], [], [], LOOK_SECONDS)
        if time.monotonic() - looked >= LOOK_SECONDS:
            look()
            looked = time.monotonic()
        content = os.read(descriptor, 65536) if ready else None
        if content == b"":
            yield from [rest.decode(errors="replace")] if rest else []
            return
        *lines, rest = (rest + (content or b"")).split(b"\n")
        yield from (line.decode(errors="replace") for line in lines)


@dataclass(frozen=True)
class Logs:
    """The logs of a step's ranks, from where they ended before it."""

    paths: tuple[Path, ...]
    """By rank."""
    sizes: tuple[int, ...]
    """Bytes that were there before."""

    @classmethod
    def before(cls, paths: Sequence[Path]) -> Logs:
        """Return those of a step that is about to start."""
        return cls(tuple(paths), tuple(path.stat().st_size if path.exists() else 0 for path in paths))

    def words(self, rank: int) -> list[str]:
        """Return the last lines that a rank, or Slurm of it, wrote in this step."""
        try:
            with self.paths[rank].open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.sizes[rank], end - WORDS_BYTES))
                return file.read().decode(errors="replace").splitlines()[-WORDS_LINES:]
        except FileNotFoundError:
            return []


def cause_of_death(said: Sequence[str], logs: Logs) -> Death:
    """Return why the processes of a step died, of what srun `said` and what stands in their logs."""
    ends = [(match, line) for line in said if (match := _OF_A_TASK.search(line)) or _ABORTED in line]
    by_itself = bool(ends and ends[0][0])  # where one rank dies, srun ends the others, with SIGTERM first
    told = next((match for match, _ in ends if match), None)
    rank = int(re.split("[,-]", told[1])[0]) if told else 0
    words = logs.words(rank)
    of_slurm = [line for line in (*words, *said) if _OF_SLURM.search(line)]
    memory = next((line for line in of_slurm if _MEMORY.search(line)), "")
    who = f"rank {rank} of {len(logs.paths)}: " if len(logs.paths) > 1 else ""
    cause = f"out of memory: {_OF_SLURM.sub('', memory)}" if memory else _cause(told[2] if told else "")
    return Death(
        error=f"{who}{cause}. Its words are in {logs.paths[rank]}",
        traceback="\n".join([*words, *said]),
        out_of_memory=bool(memory),
        by_itself=by_itself or bool(memory),
    )


def _cause(told: str) -> str:
    if told.startswith("Killed"):  # Slurm without cgroups, and the kernel, say no more
        return "killed (signal 9), as who needs more memory than there is; memory_gb_per_process in the profile sets it"
    return told or "it ended without a word"


def unfinished(folder: ScanFolder, bundle: str) -> list[tuple[str, bool]]:
    """Return the keys of the trials that a bundle is in, and of each whether it is the first of its writer."""
    found: list[tuple[str, bool]] = []
    for journal in journals(folder):
        if journal.bundle == bundle and journal.cause is None:
            with suppress(FileNotFoundError):  # closed this moment
                made = attempts(journal, counted(read_rows(journal.path, skip=DETAILS)[0])[0])
                open_ = (attempt for attempt in made if attempt.end is None and not attempt.interrupted)
                found.extend((attempt.trial, attempt is made[0]) for attempt in open_)
    return found
