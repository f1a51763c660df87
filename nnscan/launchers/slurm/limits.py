"""What a cluster will not do for a request, found before anything is submitted.

Slurm takes many requests that it can never grant (a time beyond the partition's limit waits for ever), blocks on others
(at MaxJobCount), and refuses the rest with a few words. Here the user reads what was found, what there is, and what to
type.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nnscan.errors import Problem
from nnscan.launchers.slurm.cluster import Association, Cluster, Nodes, Partition, Qos, QueuedJob
from nnscan.launchers.slurm.profile import Profile
from nnscan.launchers.slurm.request import Request, counted
from nnscan.options.declared import nearest, show

# ------------------------------------------------------------------------------------------------ whose limits hold


def partitions_of(profile: Profile, cluster: Cluster) -> list[Partition]:
    """Return the partitions that a profile names and the cluster has; without a name the default one."""
    if not profile.partition:
        return [partition for partition in cluster.partitions if partition.default]
    names = profile.partition.split(",")
    return [partition for partition in cluster.partitions if partition.name in names]


def account_of(profile: Profile, cluster: Cluster) -> str:
    """Return the account that jobs are charged to; "" where it is not known."""
    return profile.account or (cluster.accounting.default_account if cluster.accounting else "")


def associations_of(profile: Profile, cluster: Cluster) -> list[Association]:
    """Return what the user may do under that account."""
    account = account_of(profile, cluster).lower()
    known = cluster.accounting.associations if cluster.accounting else ()
    return [one for one in known if one.account.lower() == account]


def qos_of(profile: Profile, cluster: Cluster) -> list[Qos]:
    """Return the QOS whose limits hold for a job: of one kind the first counts that sets it.

    That of the partition goes before that of the job, unless the latter says otherwise (Slurm's "Resource Limits",
    "Hierarchy").
    """
    if cluster.accounting is None or not cluster.accounting.limits_enforced:
        return []
    default = next((one.default_qos for one in associations_of(profile, cluster) if one.default_qos), "normal")
    known = {qos.name: qos for qos in cluster.accounting.qos}
    of_job = known.get(profile.qos or default)
    of_partitions = [known[one.qos] for one in partitions_of(profile, cluster) if one.qos in known]
    if of_job is None:
        return of_partitions
    return [of_job, *of_partitions] if "OverPartQOS" in of_job.flags else [*of_partitions, of_job]


def _first(holders: Sequence[Qos | Association], limit: str) -> tuple[Qos | Association, int] | None:
    """Return the first that sets a limit, and the limit."""
    found = ((holder, getattr(holder, limit, None)) for holder in holders)
    return next(((holder, value) for holder, value in found if value is not None), None)


def _name(holder: Qos | Association) -> str:
    return f"the QOS {holder.name}" if isinstance(holder, Qos) else f"the account {holder.account}"


# ------------------------------------------------------------------------------------------------ numbers of jobs


@dataclass(frozen=True)
class Limit:
    """A limit on the number of jobs in the queue."""

    name: str
    """Slurm's name of it, and whose it is."""
    most: int
    used: int

    @property
    def left(self) -> int:
        """How many more jobs it allows."""
        return max(0, self.most - self.used)


def limits(profile: Profile, cluster: Cluster) -> list[Limit]:
    """Return every limit on the number of jobs in the queue that the jobs of a profile meet."""
    found = []
    if cluster.jobs_max:  # counts what ended in the last minutes, too
        found.append(Limit("MaxJobCount of the cluster", cluster.jobs_max - 1, _count(cluster.queued)))
    return [*found, *_accounted(profile, cluster)]


def _accounted(profile: Profile, cluster: Cluster) -> Iterator[Limit]:
    waiting = [job for job in cluster.queued if not job.ended]
    mine = [job for job in waiting if job.user == os.getuid()]
    account, qos = account_of(profile, cluster), qos_of(profile, cluster)
    associations = (
        associations_of(profile, cluster) if cluster.accounting and cluster.accounting.limits_enforced else []
    )
    if first := _first([*qos, *associations], "submitted"):
        holder, most = first
        of_account = [job for job in mine if job.account == account]
        yield Limit(f"MaxSubmitJobs of {_name(holder)}", most, _count(_under(holder, mine, of_account)))
    if first := _first(qos, "submitted_of_account"):
        of_account = [job for job in waiting if job.account == account]
        yield Limit(f"MaxSubmitJobsPerAccount of {_name(first[0])}", first[1], _count(_under(first[0], of_account, [])))
    if first := _first(qos, "submitted_of_all"):
        yield Limit(f"GrpSubmitJobs of {_name(first[0])}", first[1], _count(_under(first[0], waiting, [])))


def _under(holder: Qos | Association, jobs: list[QueuedJob], of_account: list[QueuedJob]) -> list[QueuedJob]:
    """Return the jobs that count against the holder of a limit."""
    return [job for job in jobs if job.qos == holder.name] if isinstance(holder, Qos) else of_account


def _count(jobs: Iterable[QueuedJob]) -> int:
    return sum(job.number for job in jobs)


def running_at_most(request: Request, cluster: Cluster) -> int | None:
    """Return how many jobs of a user run at once at most by the limits; None: as many as there is room for."""
    if cluster.accounting is None or not cluster.accounting.limits_enforced:
        return None
    profile, needs = request.profile, request.total
    qos = qos_of(profile, cluster)
    found = [_first([*qos, *associations_of(profile, cluster)], "running"), _first(qos, "running_of_all")]
    jobs = [limit for one in found if one for limit in one[1:] if limit]
    shared = (one for one in _resource_limits(qos) if one.kind != PER_JOB)
    jobs += [int(one.most // needs[one.resource]) for one in shared if needs.get(one.resource)]
    return min((number for number in jobs if number), default=None)


PER_JOB = "MaxTRESPerJob"


@dataclass(frozen=True)
class ResourceLimit:
    """A limit of a QOS on what jobs have together."""

    kind: str
    """Slurm's name of it: of a job, of all jobs of a user, of all jobs."""
    qos: str
    resource: str
    most: float


def _resource_limits(qos: Sequence[Qos]) -> list[ResourceLimit]:
    """Return the limits on resources that hold, of each kind and resource that of the first QOS that sets it."""
    found: dict[tuple[str, str], ResourceLimit] = {}
    for one in qos:
        kinds = {PER_JOB: one.resources, "MaxTRESPerUser": one.resources_of_user, "GrpTRES": one.resources_of_all}
        for kind, most_of in kinds.items():
            for resource, most in most_of.items():
                found.setdefault((kind, resource), ResourceLimit(kind, one.name, resource, most))
    return list(found.values())


def room(request: Request, cluster: Cluster) -> int:
    """Return how many such jobs the usable nodes of the request's partitions run at once; at least 1."""
    places = sum(
        nodes.number * _places(request, nodes)
        for partition in partitions_of(request.profile, cluster)
        for nodes in partition.nodes
        if nodes.usable
    )
    return max(1, places // request.nodes)


def _places(request: Request, nodes: Nodes) -> int:
    """Return how many such jobs find place on a node."""
    parts = [nodes.cpus // request.cpus]
    if request.memory_mb:
        parts.append(nodes.memory_mb // request.memory_mb)
    if request.gpus:
        parts.append(nodes.gpus_of(request.profile.gpus) // request.gpus)
    if request.shards:
        parts.append(nodes.shards // request.shards)
    return min(parts)


# ------------------------------------------------------------------------------------------------ problems


def problems(request: Request, cluster: Cluster) -> Iterator[Problem]:
    """Yield what the cluster will not do: what was found, what it offers, what to type."""
    yield from request.problems()
    yield from _name_problems(request.profile, cluster)
    found = [list(_partition_problems(request, one, cluster)) for one in partitions_of(request.profile, cluster)]
    yield from min(found, key=len, default=[])  # of several partitions one will do
    yield from _resource_problems(request, cluster)
    yield from _full(request.profile, cluster)


def _name_problems(profile: Profile, cluster: Cluster) -> Iterator[Problem]:
    known = [partition.name for partition in cluster.partitions]
    for name in profile.partition.split(",") if profile.partition else ():
        if name not in known:
            message = f"found {show(name)}; this cluster has {', '.join(known)}.{nearest(name, known)}"
            yield Problem("profile.partition", message)
    if not profile.partition and not any(partition.default for partition in cluster.partitions):
        yield Problem("profile.partition", f"missing; this cluster has no default. It has {', '.join(known)}.")
    if cluster.accounting is not None and cluster.accounting.enforced:
        accounts = sorted({association.account for association in cluster.accounting.associations})
        yield from _account_problems(profile, accounts)
        yield from _qos_problems(profile, cluster)


def _account_problems(profile: Profile, known: list[str]) -> Iterator[Problem]:
    if not known:
        yield Problem("profile.account", "you have no account on this cluster: ask its administrators for one.")
    elif profile.account and profile.account.lower() not in (name.lower() for name in known):
        message = f"found {show(profile.account)}; your accounts are {', '.join(known)}."
        yield Problem("profile.account", f"{message}{nearest(profile.account, known)}")


def _qos_problems(profile: Profile, cluster: Cluster) -> Iterator[Problem]:
    allowed = sorted({name for association in associations_of(profile, cluster) for name in association.qos})
    if profile.qos and allowed and profile.qos not in allowed:
        message = f"found {show(profile.qos)}; your account may use {', '.join(allowed)}."
        yield Problem("profile.qos", f"{message}{nearest(profile.qos, allowed)}")


def _partition_problems(request: Request, partition: Partition, cluster: Cluster) -> Iterator[Problem]:
    yield from _kept_for_others(request.profile, partition, cluster)
    yield from _time_problems(request.profile, partition, cluster)
    yield from _node_problems(request, partition)


def _kept_for_others(profile: Profile, partition: Partition, cluster: Cluster) -> Iterator[Problem]:
    account = account_of(profile, cluster)
    of_account = (partition.accounts, partition.accounts_denied)
    of_qos = (partition.qos_allowed, partition.qos_denied)
    for option, name, (allowed, denied) in (("account", account, of_account), ("qos", profile.qos, of_qos)):
        if name and allowed and name not in allowed:
            message = f"found {show(name)}; the partition {partition.name} is for {', '.join(allowed)}."
            yield Problem(f"profile.{option}", message)
        elif name and name in denied:
            yield Problem(f"profile.{option}", f"found {show(name)}; the partition {partition.name} does not take it.")


def _time_problems(profile: Profile, partition: Partition, cluster: Cluster) -> Iterator[Problem]:
    qos = qos_of(profile, cluster)
    bounds: list[tuple[float, str]] = []
    if first := _first([*qos, *associations_of(profile, cluster)], "minutes"):
        bounds.append((first[1], _name(first[0])))
    if not any("PartitionTimeLimit" in one.flags for one in qos):  # that flag lets the QOS overrule the partition
        bounds.append((partition.minutes, f"the partition {partition.name}"))
    minutes, whose = min(bounds, default=(float("inf"), ""))
    if profile.minutes > minutes:
        message = (
            f"found {profile.minutes} minutes; {whose} allows {minutes:g}, and Slurm would let jobs wait for ever."
        )
        yield Problem(
            "profile.time", f"{message} Write time = {int(minutes)}: what is left then goes on in a next life."
        )


def _node_problems(request: Request, partition: Partition) -> Iterator[Problem]:
    single = [*_too_many_nodes(request, partition), *_too_large(request, partition), *_gpu_problems(request, partition)]
    yield from single
    fitting = sum(nodes.number for nodes in partition.nodes if _places(request, nodes))
    if not single and fitting < request.nodes:
        message = f"a trial needs {request.in_words} on {counted(request.nodes, 'node')}; {fitting} of the partition"
        yield Problem("resources", f"{message} {partition.name} have that. It has {_offer(partition)}.")


def _too_many_nodes(request: Request, partition: Partition) -> Iterator[Problem]:
    most = min(partition.nodes_max, partition.size)
    if request.nodes > most:
        message = f"found {request.nodes}; the partition {partition.name} gives a job {most:g} at most."
        yield Problem("resources.nodes_per_trial", message)


def _too_large(request: Request, partition: Partition) -> Iterator[Problem]:
    """Yield of what no node of a partition has enough, one kind at a time."""
    where = f"in the partition {partition.name} a job has"
    cpus = min(max((one.cpus for one in partition.nodes), default=0), partition.cpus_max)
    if request.cpus > cpus:
        message = f"a trial needs {counted(request.cpus, 'CPU')} a node; {where} {cpus:g} at most."
        yield Problem("resources.cpus_per_trial", f"{message} Take fewer, or more nodes_per_trial.")
    memory = min(max((one.memory_mb for one in partition.nodes), default=0), partition.memory_mb_max)
    if request.memory_mb > memory:
        message = f"a trial needs {request.memory_mb} MB a node ({request.memory_in_words})"
        yield Problem("profile.memory_gb_per_process", f"{message}; {where} {memory:g} MB at most.")


def _gpu_problems(request: Request, partition: Partition) -> Iterator[Problem]:
    kind, kinds = request.profile.gpus, sorted({kind for one in partition.nodes for kind in one.gpus if kind})
    gpus = max((one.gpus_of(kind) for one in partition.nodes), default=0)
    if request.gpus and kind and not gpus:
        has = f"are {', '.join(kinds)}" if kinds else 'have no types: write "" for any, or leave it out'
        message = f"found {show(kind)}; the GPUs of the partition {partition.name} {has}."
        yield Problem("profile.gpus", f"{message}{nearest(kind, kinds)}")
    elif request.gpus > gpus:
        asked, has = f"a trial needs {counted(request.gpus, 'GPU')} a node", f"has {gpus or 'none'}"
        message = f"{asked}; a node of the partition {partition.name} {has}."
        yield Problem("resources.gpus_per_trial", f"{message} Take fewer, or another partition in the profile.")
    if request.shards > max((one.shards for one in partition.nodes), default=0):
        message = f"the partition {partition.name} does not share its GPUs (gres/shard) that way: ask for whole ones."
        yield Problem("profile.shards_per_gpu", message)


def _offer(partition: Partition) -> str:
    return ", ".join(
        f"{nodes.number} x ({counted(nodes.cpus, 'CPU')}, {nodes.memory_mb} MB, {counted(nodes.gpus_of(''), 'GPU')})"
        for nodes in partition.nodes
    )


_OPTIONS = {
    "cpu": "resources.cpus_per_trial",
    "node": "resources.nodes_per_trial",
    "mem": "profile.memory_gb_per_process",
    "gres/gpu": "resources.gpus_per_trial",
}
"""What to change, by Slurm's name of a resource."""


def _resource_problems(request: Request, cluster: Cluster) -> Iterator[Problem]:
    for limit in _resource_limits(qos_of(request.profile, cluster)):
        asked = request.total.get(limit.resource, 0)
        if asked > limit.most:
            message = f"a trial needs {limit.resource}={asked:g}; {limit.kind} of the QOS {limit.qos} is"
            option = _OPTIONS[limit.resource]
            yield Problem(option, f"{message} {limit.most:g}: Slurm would let the jobs wait for ever. Take less.")


def _full(profile: Profile, cluster: Cluster) -> Iterator[Problem]:
    for limit in limits(profile, cluster):
        if not limit.left:
            message = f"{limit.name} is {limit.most}, and {limit.used} jobs are in the queue: none can be added."
            yield Problem("slurm", f"{message} Wait until some have ended (`squeue --me`), or choose another QOS.")
