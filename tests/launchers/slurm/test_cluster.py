"""What a cluster says of itself is read: the words of several releases of Slurm, and of the cluster that is here."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from nnscan.errors import ScanError
from nnscan.launchers.slurm import cluster as slurm_cluster
from nnscan.launchers.slurm.cluster import (
    Association,
    Nodes,
    Partition,
    Qos,
    QueuedJob,
    array_size,
    read_accounting,
    read_partitions,
    read_queued,
    settings,
)
from nnscan.launchers.slurm.profile import Profile

CONFIG = """Configuration data as of 2026-11-20T19:46:59
AccountingStorageEnforce = associations,limits,qos
AccountingStorageType   = accounting_storage/slurmdbd
MaxArraySize            = 1001
MaxJobCount             = 20000
SchedulerParameters     = bf_interval=1,max_array_tasks=500,bf_continue

Slurmctld(primary) at vm is UP
"""

PARTITIONS = (
    "PartitionName=gpu AllowGroups=ALL AllowAccounts=phys,chem AllowQos=ALL AllocNodes=ALL Default=NO QoS=part_gpu"
    " DefaultTime=01:00:00 MaxNodes=4 MaxTime=2-00:00:00 MinNodes=0 MaxCPUsPerNode=32 Nodes=g[1-6] State=UP"
    " MaxMemPerNode=256000\n"
    "PartitionName=cpu AllowGroups=ALL DenyAccounts=guests AllowQos=normal,long AllocNodes=ALL Default=YES QoS=N/A"
    " MaxNodes=UNLIMITED MaxTime=UNLIMITED MaxCPUsPerNode=UNLIMITED State=UP MaxMemPerNode=UNLIMITED\n"
)

NODES = """gpu|4|64|512000|mixed|gpu:a100:4(S:0-1),shard:a100:32(S:0-1)
gpu|1|64|512000|drained*|gpu:a100:2,gpu:v100:2
gpu|1|16+|64000+|down|(null)
cpu|100|128|256000|idle|(null)
cpu|3|128|256000|idle*|(null)
cpu|2|128|256000|planned|(null)
"""


def test_settings_are_read() -> None:
    read = settings(CONFIG)
    assert read["MaxJobCount"] == "20000"
    assert read["SchedulerParameters"].startswith("bf_interval=1,")


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({"MaxArraySize": "1001"}, 1001),
        ({"MaxArraySize": "1001", "SchedulerParameters": "x,max_array_tasks=500,y"}, 500),
        ({"MaxArraySize": "300", "SchedulerParameters": "max_array_tasks=500"}, 300),
        ({"MaxArraySize": "0"}, 1),  # arrays are switched off
        ({}, 1001),
    ],
)
def test_the_size_of_arrays_is_read(config: dict[str, str], size: int) -> None:
    assert array_size(config) == size


def test_partitions_and_their_nodes_are_read() -> None:
    gpu, cpu = read_partitions(PARTITIONS, NODES)
    assert gpu == Partition(
        name="gpu",
        minutes=2880,
        nodes_max=4,
        cpus_max=32,
        memory_mb_max=256000,
        accounts=("phys", "chem"),
        qos="part_gpu",
        nodes=(
            Nodes(number=4, cpus=64, memory_mb=512000, gpus={"a100": 4}, shards=32),
            Nodes(number=1, cpus=64, memory_mb=512000, gpus={"a100": 2, "v100": 2}, usable=False),
            Nodes(number=1, cpus=16, memory_mb=64000, gpus={}, usable=False),
        ),
    )
    assert cpu.default
    assert (cpu.minutes, cpu.nodes_max, cpu.cpus_max) == (float("inf"),) * 3
    assert (cpu.accounts_denied, cpu.qos_allowed, cpu.qos) == (("guests",), ("normal", "long"), "")
    assert [nodes.usable for nodes in cpu.nodes] == [True, False, True]
    assert cpu.size == 105
    assert gpu.nodes[1].gpus_of("") == 4
    assert gpu.nodes[1].gpus_of("v100") == 2
    assert gpu.nodes[1].gpus_of("h100") == 0


def test_accounts_and_qos_are_read() -> None:
    read = read_accounting(
        "phys||normal|1-00:00:00|100|10|normal,long\nchem|gpu||||||\n",
        "phys\n",
        "normal|||||||\ntiny|DenyOnLimit,OverPartQOS|00:30:00|5|8|9|2|3|cpu=64,mem=1.5G,gres/gpu=4|node=2|\n",
        "associations,limits,safe",
    )
    phys = Association(
        account="phys", qos=("normal", "long"), default_qos="normal", minutes=1440, submitted=100, running=10
    )
    tiny = Qos(
        name="tiny",
        flags="DenyOnLimit,OverPartQOS",
        minutes=30,
        submitted=5,
        submitted_of_account=8,
        submitted_of_all=9,
        running=2,
        running_of_all=3,
        resources={"cpu": 64, "mem": 1536, "gres/gpu": 4},
        resources_of_user={"node": 2},
    )
    assert read.associations == (phys, Association(account="chem", partition="gpu"))
    assert read.qos == (Qos(name="normal"), tiny)
    assert read.default_account == "phys"
    assert read.enforced
    assert read.limits_enforced


@pytest.mark.parametrize(
    ("enforce", "accounts", "limits"),
    [("none", False, False), ("associations", True, False), ("associations,limits", True, True), ("all", True, True)],
)
def test_what_is_enforced_is_read(enforce: str, accounts: bool, limits: bool) -> None:
    read = read_accounting("", "", "", enforce)
    assert (read.enforced, read.limits_enforced) == (accounts, limits)


def test_the_queue_is_counted_task_by_task() -> None:
    read = read_queued("0|PENDING|4-9,12%3|normal|root\n7|RUNNING|3|long|phys\n7|CANCELLED|N/A|long|phys\n")
    assert list(read) == [
        QueuedJob(number=7, user=0, account="root", qos="normal", ended=False),
        QueuedJob(number=1, user=7, account="phys", qos="long", ended=False),
        QueuedJob(number=1, user=7, account="phys", qos="long", ended=True),
    ]


# ------------------------------------------------------------------------------------------------ commands


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of a cluster that prints the texts above, without a sacctmgr."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    for name, text in (("config", CONFIG), ("partitions", PARTITIONS), ("nodes", NODES)):
        (bin_ / name).write_text(text)
    write(bin_ / "sbatch", "exit 0")
    write(bin_ / "sinfo", f"cat {bin_}/nodes")
    write(bin_ / "squeue", "echo '0|PENDING|0-9|normal|root'")
    write(bin_ / "scontrol", f'[ "$2" = config ] && cat {bin_}/config || cat {bin_}/partitions')
    (bin_ / "cat").symlink_to("/bin/cat")
    (bin_ / "bash").symlink_to("/bin/bash")
    monkeypatch.setenv("PATH", str(bin_))
    return bin_


def write(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)


def test_a_cluster_without_accounting_is_read(commands: Path) -> None:
    cluster = slurm_cluster.read(Profile())
    assert cluster.array_size == 500
    assert cluster.jobs_max == 20000
    assert cluster.accounting is None
    assert [partition.name for partition in cluster.partitions] == ["gpu", "cpu"]
    assert [job.number for job in cluster.queued] == [10]


def test_a_database_that_is_away_leaves_its_limits_to_sbatch(commands: Path) -> None:
    write(commands / "sacctmgr", "echo 'sacctmgr: error: Unable to connect' >&2; exit 1")
    assert slurm_cluster.read(Profile()).accounting is None


def test_accounting_is_asked_for_this_user(commands: Path) -> None:
    answers = 'case "$*" in *assoc*) echo "phys||normal||50||normal";; *user*) echo phys;; *) echo "normal|";; esac'
    write(commands / "sacctmgr", f'{answers}; echo "$*" >> {commands}/asked')
    accounting = slurm_cluster.read(Profile()).accounting
    assert accounting is not None
    assert accounting.associations[0].submitted == 50
    assert accounting.enforced
    name = pwd.getpwuid(os.getuid()).pw_name
    assert f"user={name}" in (commands / "asked").read_text()


def test_without_sbatch_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ScanError, match="no sbatch on the PATH") as error:
        slurm_cluster.read(Profile())
    assert error.value.exit_code == 2


def test_a_controller_that_is_away_is_told(commands: Path) -> None:
    write(commands / "scontrol", "echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ScanError, match=r"Unable to contact slurm controller.*Nothing was submitted"):
        slurm_cluster.read(Profile())


# ------------------------------------------------------------------------------------------------ the cluster here


def test_the_cluster_here_is_read(slurm: None) -> None:
    cluster = slurm_cluster.read(Profile())
    names = subprocess.run(["sinfo", "-h", "-a", "-o", "%R"], capture_output=True, text=True, check=True).stdout.split()
    assert {partition.name for partition in cluster.partitions} == set(names)
    assert all(nodes.cpus and nodes.memory_mb for partition in cluster.partitions for nodes in partition.nodes)
    assert cluster.jobs_max > 0
    assert cluster.array_size > 0


def test_only_the_nodes_of_the_profile_are_read(slurm: None) -> None:
    name = slurm_cluster.read(Profile()).partitions[0].name
    partitions = slurm_cluster.read(Profile(partition=name)).partitions
    assert [partition.name for partition in partitions if partition.nodes] == [name]
    assert len(partitions) >= 1
