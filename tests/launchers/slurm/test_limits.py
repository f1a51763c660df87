"""What a cluster will not do is told before anything is submitted: what was found, what there is, what to type."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from nnscan.launch_folder import Launch
from nnscan.launchers.slurm import cluster as slurm_cluster
from nnscan.launchers.slurm.cluster import Accounting, Association, Cluster, Nodes, Partition, Qos, QueuedJob
from nnscan.launchers.slurm.limits import limits, problems, room, running_at_most
from nnscan.launchers.slurm.profile import Profile
from nnscan.launchers.slurm.request import Request

CPU = Partition(
    name="cpu",
    default=True,
    minutes=600,
    nodes=(
        Nodes(number=10, cpus=32, memory_mb=64000, gpus={}),
        Nodes(number=2, cpus=64, memory_mb=128000, gpus={}, usable=False),
    ),
)
GPU = Partition(
    name="gpu",
    minutes=1440,
    nodes_max=2,
    accounts=("phys",),
    nodes=(
        Nodes(number=3, cpus=16, memory_mb=64000, gpus={"a100": 4}),
        Nodes(number=1, cpus=64, memory_mb=16000, gpus={"v100": 2}, shards=16),
    ),
)
ACCOUNTING = Accounting(
    associations=(
        Association(account="phys", qos=("normal", "tiny"), default_qos="normal", running=40),
        Association(account="chem", qos=("normal",), submitted=20),
    ),
    default_account="phys",
    qos=(Qos(name="normal"), Qos(name="tiny", submitted=5, running=2, minutes=30), Qos(name="wide", submitted=9)),
    enforced=True,
    limits_enforced=True,
)
CLUSTER = Cluster(jobs_max=20000, partitions=(CPU, GPU), accounting=ACCOUNTING)


def request(profile: dict[str, Any] | None = None, **launch: Any) -> Request:
    asked = {"name": "l", "scan": "s", "metric": "m", "code": "/c", "data_root": "/d", **launch}
    return Request(Launch(**asked), Profile(**(profile or {})))


def told(profile: dict[str, Any], cluster: Cluster = CLUSTER, **launch: Any) -> list[str]:
    return [str(problem) for problem in problems(request(profile, **launch), cluster)]


def queued(number: int, **different: Any) -> QueuedJob:
    return QueuedJob(
        **{"number": number, "user": os.getuid(), "account": "phys", "qos": "normal", "ended": False, **different}
    )


CASES = {
    "unknown partition": (
        {"partition": "gpv"},
        {},
        "profile.partition",
        'this cluster has cpu, gpu. Did you mean "gpu"?',
    ),
    "one of two partitions": ({"partition": "cpu,nix"}, {}, "profile.partition", 'found "nix"'),
    "unknown account": ({"account": "physics"}, {}, "profile.account", "your accounts are chem, phys."),
    "unknown qos": ({"qos": "huge"}, {}, "profile.qos", "your account may use normal, tiny."),
    "qos of another account": ({"account": "chem", "qos": "tiny"}, {}, "profile.qos", "your account may use normal."),
    "partition of others": (
        {"partition": "gpu", "account": "chem"},
        {},
        "profile.account",
        "the partition gpu is for phys.",
    ),
    "time": ({"time": 601}, {}, "profile.time", "found 601 minutes; the partition cpu allows 600"),
    "time of qos": ({"qos": "tiny", "time": "31"}, {}, "profile.time", "the QOS tiny allows 30"),
    "signal": ({"time": 1, "signal_seconds": 60}, {}, "profile.signal_seconds", "Write less than 60."),
    "nodes": (
        {},
        {"nodes": 13, "processes": 13, "cpus_per_trial": 13},
        "resources.nodes_per_trial",
        "found 13; the partition cpu gives a job 12 at most.",
    ),
    "nodes of a job": (
        {"partition": "gpu"},
        {"nodes": 3, "processes": 3},
        "resources.nodes_per_trial",
        "gives a job 2 at most.",
    ),
    "cpus": (
        {},
        {"cpus_per_trial": 65},
        "resources.cpus_per_trial",
        "needs 65 CPUs a node; in the partition cpu a job has 64 at most.",
    ),
    "memory": (
        {"memory_gb_per_process": 126.0},
        {},
        "profile.memory_gb_per_process",
        "needs 129280 MB a node (1 process of 126 GB and 256 MB to supervise it)",
    ),
    "gpus where there are none": (
        {},
        {"gpus_per_trial": 1.0},
        "resources.gpus_per_trial",
        "needs 1 GPU a node; a node of the partition cpu has none.",
    ),
    "too many gpus": (
        {"partition": "gpu"},
        {"gpus_per_trial": 5.0, "processes": 5},
        "resources.gpus_per_trial",
        "needs 5 GPUs a node; a node of the partition gpu has 4.",
    ),
    "type of gpu": (
        {"partition": "gpu", "gpus": "a10"},
        {"gpus_per_trial": 1.0},
        "profile.gpus",
        'are a100, v100. Did you mean "a100"?',
    ),
    "too many of a type": (
        {"partition": "gpu", "gpus": "v100"},
        {"gpus_per_trial": 3.0, "processes": 3},
        "resources.gpus_per_trial",
        "has 2.",
    ),
    "cpu profile": (
        {"partition": "gpu", "gpus": "none"},
        {"gpus_per_trial": 1.0},
        "resources.gpus_per_trial",
        "the profile is for CPUs",
    ),
    "part of a gpu": (
        {"partition": "gpu"},
        {"gpus_per_trial": 0.5},
        "resources.gpus_per_trial",
        "found 0.5; Slurm gives whole GPUs.",
    ),
    "shards": ({"shards_per_gpu": 8}, {"gpus_per_trial": 0.5}, "profile.shards_per_gpu", "does not share its GPUs"),
    "fewer cpus than threads": (
        {"cpus_per_process": 2},
        {"cpus_per_trial": 4},
        "profile.cpus_per_process",
        "has 4 threads",
    ),
    "all together": (
        {"partition": "gpu", "memory_gb_per_process": 32.0},
        {"cpus_per_trial": 32},
        "resources",
        "0 of the partition gpu have that. It has 3 x (16 CPUs, 64000 MB, 4 GPUs), 1 x (64 CPUs, 16000 MB, 2 GPUs).",
    ),
    "together on enough nodes": (
        {"partition": "gpu"},
        {"nodes": 2, "processes": 2, "cpus_per_trial": 40},
        "resources",
        "20 CPUs, 1280 MB on 2 nodes; 1 of the partition gpu have that.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_cluster_will_not_do_is_told(case: str) -> None:
    profile, launch, path, words = CASES[case]
    found = [problem for problem in problems(request(profile, **launch), CLUSTER) if problem.path == path]
    assert [words in problem.message for problem in found] == [True], told(profile, **launch)


@pytest.mark.parametrize(
    ("profile", "launch"),
    [
        ({}, {}),
        ({"time": "10:00:00"}, {"nodes": 12, "processes": 12, "cpus_per_trial": 12}),
        (
            {"partition": "gpu", "gpus": "a100"},
            {"gpus_per_trial": 8.0, "processes": 8, "nodes": 2, "cpus_per_trial": 32},
        ),
        ({"partition": "gpu", "shards_per_gpu": 8}, {"gpus_per_trial": 0.25}),
        ({"partition": "cpu,gpu", "time": 1440}, {}),  # of several one will do
        ({"memory_gb_per_process": 0.0}, {"cpus_per_trial": 64}),
    ],
)
def test_what_it_does_is_no_problem(profile: dict[str, Any], launch: dict[str, Any]) -> None:
    assert told(profile, **launch) == []


def test_a_cluster_without_a_default_partition_is_told_of() -> None:
    cluster = replace(CLUSTER, partitions=(GPU,))
    assert told({}, cluster) == ["profile.partition: missing; this cluster has no default. It has gpu."]


def test_without_accounting_names_of_accounts_are_left_to_sbatch() -> None:
    assert told({"account": "nix", "qos": "nix"}, replace(CLUSTER, accounting=None)) == []


def test_who_has_no_account_is_told() -> None:
    cluster = replace(CLUSTER, accounting=Accounting(enforced=True))
    assert told({}, cluster) == [
        "profile.account: you have no account on this cluster: ask its administrators for one."
    ]


def test_a_qos_that_overrules_the_partitions_time_does() -> None:
    long = Qos(name="long", flags="PartitionTimeLimit", minutes=3000)
    accounting = replace(ACCOUNTING, qos=(long,), associations=(Association(account="phys", qos=("long",)),))
    assert told({"qos": "long", "time": 3000}, replace(CLUSTER, accounting=accounting)) == []


# ------------------------------------------------------------------------------------------------ numbers of jobs


@pytest.mark.parametrize(
    ("profile", "jobs", "expected"),
    [
        ({}, [queued(3, ended=True), queued(4)], {"MaxJobCount of the cluster": 19999 - 7}),
        (
            {"qos": "tiny"},
            [queued(3, qos="tiny"), queued(1, qos="tiny", user=10**6), queued(1, qos="tiny", ended=True)],
            {"MaxSubmitJobs of the QOS tiny": 2},
        ),
        ({"account": "chem"}, [queued(19, account="chem"), queued(7)], {"MaxSubmitJobs of the account chem": 1}),
        ({"account": "chem"}, [queued(99, account="chem")], {"MaxSubmitJobs of the account chem": 0}),
    ],
)
def test_what_is_left_of_a_limit(profile: dict[str, Any], jobs: list[QueuedJob], expected: dict[str, int]) -> None:
    found = {limit.name: limit.left for limit in limits(Profile(**profile), replace(CLUSTER, queued=tuple(jobs)))}
    assert {name: found[name] for name in expected} == expected


def test_the_qos_of_the_partition_goes_before_that_of_the_job_and_both_before_the_account() -> None:
    partition = replace(CPU, qos="wide")
    accounting = replace(ACCOUNTING, associations=(Association(account="phys", qos=("tiny",), submitted=1),))
    cluster = replace(CLUSTER, partitions=(partition,), accounting=accounting)
    assert [limit.name for limit in limits(Profile(qos="tiny"), cluster)][1:] == ["MaxSubmitJobs of the QOS wide"]
    over = (Qos(name="tiny", flags="OverPartQOS", submitted=5), Qos(name="wide", submitted=9))
    cluster = replace(cluster, accounting=replace(accounting, qos=over))
    assert [limit.name for limit in limits(Profile(qos="tiny"), cluster)][1:] == ["MaxSubmitJobs of the QOS tiny"]


def test_limits_of_a_group_and_of_an_account_count_the_jobs_of_others() -> None:
    shared = Qos(name="normal", submitted_of_account=10, submitted_of_all=30)
    jobs = (queued(4, user=10**6), queued(5, user=10**6, account="chem"))
    cluster = replace(CLUSTER, accounting=replace(ACCOUNTING, qos=(shared,)), queued=jobs)
    assert {limit.name: limit.left for limit in limits(Profile(), cluster)} == {
        "MaxJobCount of the cluster": 19990,
        "MaxSubmitJobsPerAccount of the QOS normal": 6,
        "GrpSubmitJobs of the QOS normal": 21,
    }


def test_limits_that_are_not_enforced_are_none() -> None:
    cluster = replace(CLUSTER, accounting=replace(ACCOUNTING, limits_enforced=False))
    assert [limit.name for limit in limits(Profile(qos="tiny"), cluster)] == ["MaxJobCount of the cluster"]
    assert running_at_most(request({"qos": "tiny"}), cluster) is None


def test_a_full_queue_is_refused_by_the_name_of_its_limit() -> None:
    cluster = replace(CLUSTER, queued=(queued(5, qos="tiny"),))
    (problem,) = told({"qos": "tiny", "time": 30}, cluster)
    assert problem.startswith(
        "slurm: MaxSubmitJobs of the QOS tiny is 5, and 5 jobs are in the queue: none can be added."
    )
    (problem,) = told({}, replace(CLUSTER, queued=(queued(19999),)))
    assert problem.startswith("slurm: MaxJobCount of the cluster is 19999")


@pytest.mark.parametrize(("profile", "most"), [({"qos": "tiny"}, 2), ({}, 40), ({"account": "chem"}, None)])
def test_how_many_run_at_most(profile: dict[str, Any], most: int | None) -> None:
    assert running_at_most(request(profile), CLUSTER) == most


def with_qos(**limits: dict[str, float]) -> Cluster:
    accounting = replace(ACCOUNTING, qos=(Qos(name="normal", **limits),), associations=(Association(account="phys"),))
    return replace(CLUSTER, accounting=accounting)


def test_what_all_jobs_of_a_user_may_have_is_shared() -> None:
    cluster = with_qos(resources_of_user={"cpu": 20, "gres/gpu": 2}, resources_of_all={"mem": 8000})
    assert running_at_most(request(cpus_per_trial=3), cluster) == 6
    assert running_at_most(request({"memory_gb_per_process": 3.0}, cpus_per_trial=3), cluster) == 2
    assert running_at_most(request({"memory_gb_per_process": 0.0}), cluster) == 20
    assert running_at_most(request(), with_qos(resources={"cpu": 1})) is None


@pytest.mark.parametrize(
    ("limits", "path"),
    [
        ({"resources": {"cpu": 7}}, "resources.cpus_per_trial"),
        ({"resources_of_user": {"node": 1}}, "resources.nodes_per_trial"),
        ({"resources_of_all": {"mem": 2000}}, "profile.memory_gb_per_process"),
    ],
)
def test_a_trial_above_a_limit_of_its_qos_is_told(limits: dict[str, dict[str, float]], path: str) -> None:
    asked = {"nodes": 2, "processes": 2, "cpus_per_trial": 8}
    (problem,) = told({}, with_qos(**limits), **asked)
    assert problem.startswith(f"{path}: a trial needs ")
    assert "of the QOS normal is" in problem
    assert told({}, with_qos(resources={"cpu": 8, "node": 2, "mem": 4000, "energy": 0}), **asked) == []


@pytest.mark.parametrize(
    ("profile", "launch", "places"),
    [
        ({}, {}, 10 * 32),  # nodes that are down are not counted
        ({"memory_gb_per_process": 7.75}, {}, 10 * 7),
        ({}, {"cpus_per_trial": 20}, 10),
        ({}, {"cpus_per_trial": 20, "nodes": 4, "processes": 4}, 10 * 6 // 4),
        ({"partition": "gpu"}, {"gpus_per_trial": 1.0}, 3 * 4 + 2),
        ({"partition": "gpu", "gpus": "a100"}, {"gpus_per_trial": 1.0}, 3 * 4),
        ({"partition": "gpu", "shards_per_gpu": 8}, {"gpus_per_trial": 0.25}, 8),
        ({}, {"cpus_per_trial": 64}, 1),
    ],
)
def test_how_many_find_room(profile: dict[str, Any], launch: dict[str, Any], places: int) -> None:
    assert room(request(profile, **launch), CLUSTER) == places


# ------------------------------------------------------------------------------------------------ the cluster here


def test_the_cluster_here_runs_what_the_default_profile_asks_for(slurm: None) -> None:
    cluster = slurm_cluster.read(Profile())
    if not any(partition.default for partition in cluster.partitions):
        pytest.skip("this cluster has no default partition")
    assert told({"time": 1, "signal_seconds": 10}, cluster) == []
    assert room(request(), cluster) >= 1


def test_the_cluster_here_has_limits_that_are_told(slurm: None) -> None:
    cluster = slurm_cluster.read(Profile())
    names = [partition.name for partition in cluster.partitions]
    (problem,) = [line for line in told({"partition": "nix"}, cluster) if line.startswith("profile.partition")]
    assert ", ".join(names) in problem
    for partition in cluster.partitions:
        gpus = max((nodes.gpus_of("") for nodes in partition.nodes), default=0) + 1
        asked = {"gpus_per_trial": float(gpus), "processes": gpus}
        assert any("GPU" in line for line in told({"partition": partition.name}, cluster, **asked))
        if partition.minutes < float("inf"):
            time = int(partition.minutes) + 1
            assert any(
                line.startswith("profile.time") for line in told({"partition": partition.name, "time": time}, cluster)
            )
