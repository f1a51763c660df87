"""What a Slurm cluster says of itself: its limits, partitions, nodes, accounts and the jobs in its queue."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from nnscan.errors import Problem, ScanError
from nnscan.launchers.slurm.command import SlurmError, present, run
from nnscan.launchers.slurm.profile import Profile
from nnscan.launchers.slurm.queue import ENDED, expanded, seconds_of

DEFAULT_ARRAY_SIZE = 1001
"""Slurm's own MaxArraySize: the highest task of an array is one below it."""

ACCOUNTING_SECONDS = 10.0
"""For the database, which may be away: what it would have said is left to sbatch then."""

_OF_ASSOCIATION = "account,partition,defaultqos,maxwall,maxsubmitjobs,maxjobs,qos"
_OF_QOS = "name,flags,maxwall,maxsubmitpu,maxsubmitpa,grpsubmit,maxjobspu,grpjobs,maxtresperjob,maxtresperuser,grptres"

_RESOURCE = re.compile(r"([\w/:.-]+)=(\d+(?:\.\d+)?)([KMGTP]?)")
_MEGABYTES = {"K": 2**-10, "": 1, "M": 1, "G": 2**10, "T": 2**20, "P": 2**30}

_GRES = re.compile(r"(?:^|,)(gpu|shard)(?::([^:,(]+))?:(\d+)")
_USABLE = re.compile(r"(allocated|completing|idle|mixed|planned|reserved)")


# ------------------------------------------------------------------------------------------------ data


@dataclass(frozen=True, kw_only=True)
class Nodes:
    """Nodes of a partition that are alike."""

    number: int
    cpus: int
    memory_mb: int
    gpus: Mapping[str, int]
    """GPUs of each node, by type; "" where the cluster names none."""
    shards: int = 0
    """Shares that the GPUs of each node are handed out in; 0: none are."""
    usable: bool = True
    """Whether they run jobs now: neither down nor drained."""

    def gpus_of(self, kind: str) -> int:
        """Return how many GPUs of a type each node has; "": of all types."""
        return self.gpus.get(kind, 0) if kind else sum(self.gpus.values())


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A partition."""

    name: str
    default: bool = False
    minutes: float = float("inf")
    """Longest time of a job."""
    nodes_max: float = float("inf")
    """Nodes of a job."""
    cpus_max: float = float("inf")
    """CPUs of a job on a node."""
    memory_mb_max: float = float("inf")
    """Memory of a job on a node."""
    accounts: tuple[str, ...] = ()
    """Those it is kept for; none: all."""
    accounts_denied: tuple[str, ...] = ()
    qos_allowed: tuple[str, ...] = ()
    """Those it is kept for; none: all."""
    qos_denied: tuple[str, ...] = ()
    qos: str = ""
    """QOS whose limits hold for all its jobs; "": none."""
    nodes: tuple[Nodes, ...] = ()

    @property
    def size(self) -> int:
        """Number of its nodes, whatever their state."""
        return sum(nodes.number for nodes in self.nodes)


@dataclass(frozen=True, kw_only=True)
class Qos:
    """A quality of service; None: no limit."""

    name: str
    flags: str = ""
    minutes: int | None = None
    """Longest time of a job."""
    submitted: int | None = None
    """Jobs of a user in the queue."""
    submitted_of_account: int | None = None
    submitted_of_all: int | None = None
    running: int | None = None
    """Jobs of a user that run at once."""
    running_of_all: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    """Most that a job may have: "cpu", "node", "mem" in MB, "gres/gpu"; what is not there has no limit."""
    resources_of_user: Mapping[str, float] = field(default_factory=dict)
    """Most that all running jobs of a user may have."""
    resources_of_all: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Association:
    """What a user may do under an account; None: no limit."""

    account: str
    partition: str = ""
    qos: tuple[str, ...] = ()
    default_qos: str = ""
    minutes: int | None = None
    """Longest time of a job."""
    submitted: int | None = None
    """Jobs in the queue."""
    running: int | None = None
    """Jobs that run at once."""


@dataclass(frozen=True, kw_only=True)
class Accounting:
    """What the database says of this user."""

    associations: tuple[Association, ...] = ()
    default_account: str = ""
    qos: tuple[Qos, ...] = ()
    enforced: bool = False
    """Whether jobs need an association."""
    limits_enforced: bool = False


@dataclass(frozen=True, kw_only=True)
class QueuedJob:
    """Jobs of the queue that have all this in common."""

    number: int
    user: int
    account: str
    qos: str
    ended: bool


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What Slurm says of itself."""

    array_size: int = DEFAULT_ARRAY_SIZE
    """MaxArraySize: the tasks of an array are numbered below it."""
    jobs_max: int = 0
    """MaxJobCount; 0: not known."""
    partitions: tuple[Partition, ...] = ()
    accounting: Accounting | None = None
    """None: there is none, or it does not answer."""
    queued: tuple[QueuedJob, ...] = ()


# ------------------------------------------------------------------------------------------------ asking


def read(profile: Profile) -> Cluster:
    """Return what the cluster says of itself, of nodes only those that a profile can get.

    Raises
    ------
    ScanError
        Where there is no Slurm here, or its controller does not answer.
    """
    if not present("sbatch"):
        raise _refused("there is no sbatch on the PATH. Launch on a login node of a Slurm cluster, or --cluster local.")
    whose = f"--partition={profile.partition}" if profile.partition else "--all"  # sinfo takes one of the two
    try:
        config = settings(run(["scontrol", "show", "config"]))
        partitions = run(["scontrol", "--oneliner", "--all", "show", "partition"])
        nodes = run(["sinfo", "--noheader", "--exact", whose, "-o", "%R|%D|%c|%m|%T|%G"])
        queued = run(["squeue", "--noheader", "--all", "--states=all", "-o", "%U|%T|%K|%q|%a"])
    except SlurmError as error:
        raise _refused(f"Slurm does not answer ({error}). Nothing was submitted; try again when it does.") from error
    return Cluster(
        array_size=array_size(config),
        jobs_max=int(config.get("MaxJobCount", "0")),
        partitions=tuple(read_partitions(partitions, nodes)),
        accounting=_accounting(config),
        queued=tuple(read_queued(queued)),
    )


def _refused(message: str) -> ScanError:
    return ScanError("slurm", [Problem("--cluster", message)])


def _accounting(config: Mapping[str, str]) -> Accounting | None:
    if "slurmdbd" not in config.get("AccountingStorageType", "") or not present("sacctmgr"):
        return None
    user = pwd.getpwuid(os.getuid()).pw_name
    questions = (
        ["assoc", "where", f"user={user}", f"format={_OF_ASSOCIATION}"],
        ["user", "where", f"name={user}", "format=defaultaccount"],
        ["qos", f"format={_OF_QOS}"],
    )
    sacctmgr = ["sacctmgr", "--noheader", "--parsable2", "show"]
    try:
        answers = [run([*sacctmgr, *question], seconds=ACCOUNTING_SECONDS) for question in questions]
    except (SlurmError, KeyError):
        return None  # the database is away or closed to users; sbatch tells what it would have told
    associations, default, qos = answers
    return read_accounting(associations, default, qos, config.get("AccountingStorageEnforce", ""))


# ------------------------------------------------------------------------------------------------ reading


def settings(text: str) -> dict[str, str]:
    """Return what `scontrol show config` printed: "Name = value", a line each."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, sign, value in pairs if sign}


def array_size(config: Mapping[str, str]) -> int:
    """Return how many tasks an array may have: MaxArraySize, or max_array_tasks where that is less."""
    tasks = re.search(r"\bmax_array_tasks=(\d+)", config.get("SchedulerParameters", ""))
    size = int(config.get("MaxArraySize", DEFAULT_ARRAY_SIZE))
    return max(1, min(size, int(tasks[1])) if tasks else size)


def read_partitions(partitions: str, nodes: str) -> Iterator[Partition]:
    """Yield the partitions of `scontrol --oneliner show partition` with their nodes from sinfo."""
    by_name: dict[str, list[Nodes]] = {}
    for line in nodes.splitlines():
        name, found = _nodes(line)
        by_name.setdefault(name, []).append(found)
    for line in partitions.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if name := words.get("PartitionName", ""):
            yield _partition(name, words, tuple(by_name.get(name, ())))


def _nodes(line: str) -> tuple[str, Nodes]:
    partition, number, cpus, memory, state, gres = line.split("|", 5)
    found = _GRES.findall(gres)
    gpus: dict[str, int] = {}
    for name, kind, count in found:
        if name == "gpu":
            gpus[kind] = gpus.get(kind, 0) + int(count)
    return partition, Nodes(
        number=int(number),
        cpus=_whole(cpus),
        memory_mb=_whole(memory),
        gpus=gpus,
        shards=sum(int(count) for name, _, count in found if name == "shard"),
        usable=_USABLE.match(state) is not None and not state.endswith("*"),  # *: does not answer
    )


def _whole(text: str) -> int:
    """Return the number at the start of "8000" or "16+"."""
    found = re.match(r"\d+", text)
    return int(found[0]) if found else 0


def _partition(name: str, words: Mapping[str, str], nodes: tuple[Nodes, ...]) -> Partition:
    seconds = seconds_of(words.get("MaxTime", ""))
    return Partition(
        name=name,
        default=words.get("Default") == "YES",
        minutes=float("inf") if seconds is None else seconds / 60,
        nodes_max=_most(words.get("MaxNodes", "")),
        cpus_max=_most(words.get("MaxCPUsPerNode", "")),
        memory_mb_max=_most(words.get("MaxMemPerNode", "")),
        accounts=_names(words.get("AllowAccounts", "")),
        accounts_denied=_names(words.get("DenyAccounts", "")),
        qos_allowed=_names(words.get("AllowQos", "")),
        qos_denied=_names(words.get("DenyQos", "")),
        qos="" if (qos := words.get("QoS", "N/A")) == "N/A" else qos,
        nodes=nodes,
    )


def _most(text: str) -> float:
    return int(text) if text.isdecimal() and int(text) else float("inf")


def _names(text: str) -> tuple[str, ...]:
    return () if text in ("", "ALL", "(null)") else tuple(text.split(","))


def read_accounting(associations: str, default: str, qos: str, enforce: str) -> Accounting:
    """Return what three answers of sacctmgr, one line an entry, and AccountingStorageEnforce say."""
    parts = set(enforce.lower().split(","))
    return Accounting(
        associations=tuple(_association(line) for line in associations.splitlines() if line.strip()),
        default_account=next(iter(default.split()), ""),
        qos=tuple(_qos(line) for line in qos.splitlines() if line.strip()),
        enforced=bool(parts & {"associations", "limits", "qos", "safe", "wckeys", "all"}),
        limits_enforced=bool(parts & {"limits", "qos", "safe", "all"}),
    )


def _association(line: str) -> Association:
    account, partition, default_qos, wall, submitted, running, qos = _cells(line, 7)
    return Association(
        account=account,
        partition=partition,
        qos=_names(qos),
        default_qos=default_qos,
        minutes=_minutes(wall),
        submitted=_limit(submitted),
        running=_limit(running),
    )


def _qos(line: str) -> Qos:
    name, flags, wall, submitted, of_account, of_all, running, running_of_all, *resources = _cells(line, 11)
    return Qos(
        name=name,
        flags=flags,
        minutes=_minutes(wall),
        submitted=_limit(submitted),
        submitted_of_account=_limit(of_account),
        submitted_of_all=_limit(of_all),
        running=_limit(running),
        running_of_all=_limit(running_of_all),
        resources=_resources(resources[0]),
        resources_of_user=_resources(resources[1]),
        resources_of_all=_resources(resources[2]),
    )


def _resources(text: str) -> dict[str, float]:
    """Return resources such as "cpu=64,mem=1.5T,gres/gpu=4" as numbers, memory in MB."""
    found = (_RESOURCE.fullmatch(word) for word in text.split(","))
    return {one[1]: float(one[2]) * _MEGABYTES[one[3]] for one in found if one}


def _cells(line: str, number: int) -> list[str]:
    """Return the first `number` cells of a line, empty ones where a release prints fewer."""
    return [*line.split("|"), *[""] * number][:number]


def _minutes(wall: str) -> int | None:
    seconds = seconds_of(wall)
    return None if seconds is None else int(seconds // 60)


def _limit(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def read_queued(text: str) -> Iterator[QueuedJob]:
    """Yield the jobs that squeue printed as user|state|tasks|QOS|account."""
    for line in text.splitlines():
        user, state, tasks, qos, account = line.split("|", 4)
        number = max(1, sum(1 for _ in expanded(tasks)))
        yield QueuedJob(number=number, user=int(user), account=account, qos=qos, ended=state in ENDED)
