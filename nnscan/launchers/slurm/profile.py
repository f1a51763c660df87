"""Profiles: how a cluster wants to be asked for jobs (partition, account, time, memory).

What a trial needs stands in the scan file (`[resources]`), so one scan file runs on many clusters, and one profile
serves many scans.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from nnscan import named_files
from nnscan.errors import Problem, ScanError
from nnscan.options.declared import nearest, options_of, show
from nnscan.options.tables import Arguments, Count, CountOrZero, NotNegative, Options

PACKAGED_PROFILES = Path(__file__).parents[2] / "slurm"
"""Profiles in an installed nnscan; in a checkout they lie in `slurm`, beside the package."""

DEFAULT_PROFILE = "default"
LARGEST_FILE_KB = 256

_TIME = re.compile(r"(?:(\d{1,4})-)?(\d{1,4})(?::(\d{1,2}))?(?::(\d{1,2}))?")
_OPTION = re.compile(r"[a-z][a-z0-9-]*")

OWN_OPTIONS: Mapping[str, str] = {
    "account": "`account`",
    "array": "`bundles_at_once` and `trials_per_bundle`",
    "chdir": "the working folder of the launch",
    "constraint": "`constraint`",
    "cpus-per-task": "`resources.cpus_per_trial` of the scan file",
    "dependency": "the launch itself",
    "error": "the launch itself",
    "exclude": "`exclude`",
    "gpus-per-node": "`resources.gpus_per_trial` of the scan file",
    "job-name": "the name of the scan",
    "mem": "`memory_gb_per_process`",
    "no-requeue": "the launch itself: a job that was preempted goes on",
    "nodes": "`resources.nodes_per_trial` of the scan file",
    "ntasks": "`resources.processes_per_trial` of the scan file",
    "ntasks-per-node": "`resources.processes_per_trial` of the scan file",
    "open-mode": "the launch itself",
    "output": "the launch itself",
    "parsable": "the launch itself",
    "partition": "`partition`",
    "qos": "`qos`",
    "requeue": "the launch itself",
    "reservation": "`reservation`",
    "signal": "`signal_seconds`",
    "test-only": "--dry-run",
    "time": "`time`",
    "wait": "--wait",
    "wrap": "`setup`",
}
"""Options of sbatch that nnscan sets, and what to write in their place."""


def _one_line(text: str) -> str:
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in text.replace("\t", " ")):
        raise ValueError(f"found {show(text)}; accepted: text on one line, without control characters")
    return text


def _duration(value: int | str) -> int | str:
    if _minutes(value) < 1:
        raise ValueError(f"found {show(value)}; accepted: {_DURATION}")
    return value


def _options(table: dict[str, Any]) -> dict[str, Any]:
    for name, value in table.items():
        if not _OPTION.fullmatch(name):
            raise ValueError(f'found {show(name)}; accepted: long options of sbatch without "--", such as mail-type')
        if name in OWN_OPTIONS:
            raise ValueError(f"found {show(name)}, which nnscan sets: it comes of {OWN_OPTIONS[name]}")
        if not isinstance(value, str | int) or value is False:
            raise ValueError(f"found {name} = {show(value)}; accepted: a string, a whole number, or true")
        _one_line(str(value))
    return table


_DURATION = 'minutes, or "HH:MM:SS" or "D-HH:MM:SS", of at least a minute'
Line = Annotated[str, AfterValidator(_one_line)]
Duration = Annotated[int | str, AfterValidator(_duration), Field(description=_DURATION)]


class Profile(Options):
    """How the jobs of a launch are asked of Slurm. An empty text leaves the choice to the cluster."""

    partition: Line = ""
    """Partition, or several with commas between."""

    account: Line = ""
    """Account that is charged."""

    qos: Line = ""
    """Quality of service."""

    time: Duration = 60
    """Longest time of a job. What is left goes on in the next life of the same job."""

    gpus: Line = ""
    """Type of GPU, such as "a100"; "": any; "none": a profile for CPUs, with which no scan gets GPUs."""

    shards_per_gpu: CountOrZero = 0
    """Parts that a GPU of this cluster is shared in (`gres/shard`); 0: whole GPUs only."""

    cpus_per_process: CountOrZero = 0
    """CPUs to ask for each process, where the cluster wants more than its threads; 0: as many as its threads."""

    memory_gb_per_process: NotNegative = 1.0
    """Memory of each process; torch alone needs 0.7 GB. 0: what the cluster gives unasked."""

    constraint: Line = ""
    """Features that nodes must have."""

    exclude: Line = ""
    """Nodes to leave out."""

    reservation: Line = ""
    """Reservation to run in."""

    setup: list[Line] = []  # noqa: RUF012 (pydantic copies it)
    """Lines of shell before the work, such as "module load cuda"."""

    python: Line = ""
    """Interpreter on the nodes; "": the one that launches."""

    bundles_at_once: CountOrZero = 0
    """Jobs of a launch that run at the same time; 0: as many as the partition has room for."""

    trials_per_bundle: CountOrZero = 0
    """Trials that one job runs after another; 0: nnscan chooses."""

    signal_seconds: Count = 60
    """Seconds before the end of its time at which a job is told to save; Slurm may be a minute early."""

    sbatch: Arguments = {}  # noqa: RUF012 (pydantic copies it)
    """Further options of sbatch, without "--": {mail-type = "END"}."""

    srun: list[Line] = []  # noqa: RUF012 (pydantic copies it)
    """Further arguments of srun, which starts the processes: ["--cpu-bind=cores"]."""

    @property
    def minutes(self) -> int:
        """Longest time of a job; Slurm counts whole minutes."""
        return _minutes(self.time)


def _minutes(value: int | str) -> int:
    """Return a duration in minutes, rounded up; 0 where it is none."""
    if isinstance(value, int):
        return value if 0 < value <= 2**31 else 0
    found = _TIME.fullmatch(value)
    if not found:
        return 0
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None or len(numbers) == 3:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    else:
        hours, minutes, seconds = 0, *(*numbers, 0)[:2]
    return -(-((int(days or 0) * 24 + hours) * 3600 + minutes * 60 + seconds) // 60)


def find_profile(name: str = "") -> Profile:
    """Return the profile that `name` means: a path, or a file in `./slurm` or among those that come with nnscan.

    Without a name, `slurm/default.toml`, else the one of that name that comes with nnscan.

    Raises
    ------
    ScanError
        Where there is none, with those there are; and with every problem of the file.
    """
    path = profile_file(name)
    return read_profile(_text(path), str(path))


def profile_file(name: str = "") -> Path:
    """Return the file of a profile."""
    folders = (Path("slurm"), named_files.shipped(PACKAGED_PROFILES))
    named = [Path(name)] if name else []
    if path := named_files.first([*named, *named_files.places(name or DEFAULT_PROFILE, folders)], Path.is_file):
        return path
    known = named_files.names(folders)
    hint = nearest(Path(name).name.removesuffix(".toml"), known)
    message = f"found {show(name)}; no such file, and no profile of that name in slurm.{hint}"
    raise ScanError("options", [Problem("--profile", f"{message} There are: {', '.join(known)}.")])


def _text(path: Path) -> str:
    try:
        return named_files.text_of(path, "profile", "slurm/cpu.toml", LARGEST_FILE_KB)
    except ValueError as error:
        raise ScanError(str(path), [Problem("--profile", str(error))]) from error


def read_profile(text: str, source: str = "<text>") -> Profile:
    """Return the profile that a TOML text says; raise ScanError with every problem of it."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScanError(source, [Problem("TOML", f"{error}.")]) from error
    problems = list(_problems(table))
    if problems:
        raise ScanError(source, problems)
    return Profile.model_validate(table)


def _problems(table: Mapping[str, Any]) -> Iterator[Problem]:
    options = {option.path[0]: option for option in options_of((), (Profile,), {})}
    known = [*options, "sbatch"]
    for name, value in table.items():
        if name in options:
            _, found = options[name].check([value])
            yield from (Problem(_place(name, indices[1:]), message) for indices, message in found)
        elif name == "sbatch":
            yield from _sbatch_problems(value)
        else:
            message = f"unknown.{nearest(name, known)} A profile takes: {', '.join(sorted(known))}."
            yield Problem(name, message)


def _place(name: str, indices: tuple[int, ...]) -> str:
    return "".join([name, *(f"[{index}]" for index in indices)])


def _sbatch_problems(value: Any) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield Problem("sbatch", f"found {show(value)}; accepted: a table of options and values.")
        return
    for name, content in value.items():
        try:
            _options({name: content})
        except ValueError as error:
            yield Problem(f"sbatch.{name}", f"{error}.")


def filled(profile: Profile, variables: Mapping[str, str]) -> Profile:
    """Return the profile with account, partition, QOS and reservation from SBATCH_ACCOUNT and so on where it has none.

    Many sites let their users set these once; sbatch itself would let them overrule the profile.
    """
    names = ("account", "partition", "qos", "reservation")
    found = {name: variables.get(f"SBATCH_{name.upper()}", "") for name in names if not getattr(profile, name)}
    return profile.model_copy(update={name: value for name, value in found.items() if value})
