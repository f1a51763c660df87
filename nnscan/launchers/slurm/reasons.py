"""Why a job waits that will never start, and what there is to do about it."""

from __future__ import annotations

ADVICE = {
    "PartitionTimeLimit": "its walltime is above the limit of the partition: shorten `time` in the profile",
    "PartitionNodeLimit": "the partition gives no job so many nodes: ask for fewer, or another partition",
    "PartitionConfig": "the partition does not allow what it asks for: compare the profile with `sinfo`",
    "BadConstraints": "no node has what it asks for: mend `constraint` and the resources in the profile",
    "InvalidAccount": "the account may not use this cluster: mend `account` in the profile",
    "InvalidQOS": "the account may not use this QOS: mend `qos` in the profile",
    "DependencyNeverSatisfied": "a job that it waits for has failed",
    "JobHeldAdmin": "it is held: `scontrol release` lets it go, where you may",
    "JobHeldUser": "it is held: `scontrol release` lets it go",
    "launch failed requeued held": "its node could not start it: `scontrol release` lets it try again",
    "job requeued in held state": "it is held: `scontrol release` lets it go",
}
"""What there is to do about a request that never starts, by Slurm's reason (squeue's manual, "job reason codes")."""

_ABOVE_A_LIMIT = (
    "it asks for more than a limit on each job: `sacctmgr show qos` and `sacctmgr show assoc` have the limits"
)
_PER_JOB = ("PerJob", "MaxWallDuration")
"""Parts of the reasons that say that the job alone is above a limit: it does not start when others end."""


def advice(reason: str) -> str:
    """Return what there is to do where a job that waits for this reason never starts; "" where it may start."""
    if any(part in reason for part in _PER_JOB):
        return _ABOVE_A_LIMIT
    return ADVICE.get(reason, "")
