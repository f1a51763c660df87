"""What one job asks of each of its nodes: what a trial needs, in Slurm's terms."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from nnscan.errors import Problem
from nnscan.launch_folder import Launch
from nnscan.launchers.slurm.profile import Profile
from nnscan.options.declared import show

SUPERVISOR_MB = 256
"""Of memory a node, beside the processes of the trial: the shell, Python and submitit need 60."""

CPU_PROFILE = "none"
"""In place of a type of GPU: the profile gives none."""


@dataclass(frozen=True)
class Request:
    """A job that trains one trial at a time."""

    launch: Launch
    profile: Profile

    @property
    def nodes(self) -> int:
        """Nodes of a job."""
        return self.launch.nodes

    @property
    def ranks(self) -> int:
        """Processes on each node."""
        return self.launch.processes // self.launch.nodes

    @property
    def cpus_per_process(self) -> int:
        """CPUs of each process."""
        return self.profile.cpus_per_process or self.launch.threads

    @property
    def cpus(self) -> int:
        """CPUs on each node."""
        return self.ranks * self.cpus_per_process

    @property
    def memory_mb(self) -> int:
        """Memory on each node; 0: what the cluster gives unasked."""
        asked = self.profile.memory_gb_per_process
        return math.ceil(asked * 1024) * self.ranks + SUPERVISOR_MB if asked else 0

    @property
    def gpus(self) -> int:
        """Whole GPUs on each node."""
        none = self._shared or self.profile.gpus == CPU_PROFILE
        return 0 if none else math.ceil(self.launch.gpus_per_trial / self.launch.nodes)

    def typed_gpus(self, number: int) -> str:
        """Return a number of GPUs as Slurm reads it: "2", or "a100:2"."""
        return f"{self.profile.gpus}:{number}" if self.profile.gpus else str(number)

    @property
    def shards(self) -> int:
        """Parts of GPUs on each node, where trials share a GPU."""
        return math.ceil(self.launch.gpus_per_trial * self.profile.shards_per_gpu) if self._shared else 0

    @property
    def _shared(self) -> bool:
        return 0 < self.launch.gpus_per_trial < 1

    @property
    def total(self) -> dict[str, float]:
        """What a job has on all its nodes, by Slurm's names: CPUs, nodes, memory in MB, GPUs."""
        each = {"cpu": self.cpus, "node": 1, "mem": self.memory_mb, "gres/gpu": self.gpus}
        return {name: number * self.nodes for name, number in each.items()}

    @property
    def in_words(self) -> str:
        """What it asks of a node."""
        memory = f", {self.memory_mb} MB" if self.memory_mb else ""
        gpus = f", {counted(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{counted(self.cpus, 'CPU')}{memory}{gpus}"

    @property
    def memory_in_words(self) -> str:
        """What the memory of a node is made of."""
        memory = f"{self.profile.memory_gb_per_process:g} GB"
        theirs = f"{SUPERVISOR_MB} MB to supervise {'it' if self.ranks == 1 else 'them'}"
        return f"{counted(self.ranks, 'process', 'processes')} of {memory} and {theirs}"

    def problems(self) -> Iterator[Problem]:
        """Yield what fits together on no cluster."""
        profile, launch = self.profile, self.launch
        if profile.signal_seconds >= profile.minutes * 60:
            message = f"found {profile.signal_seconds}; a job of {profile.minutes} minutes would be told to save before"
            yield Problem("profile.signal_seconds", f"{message} it starts. Write less than {profile.minutes * 60}.")
        if 0 < profile.cpus_per_process < launch.threads:
            message = f"found {profile.cpus_per_process}; each process of a trial has {launch.threads} threads"
            yield Problem(
                "profile.cpus_per_process", f"{message} (resources.cpus_per_trial). Write 0, or at least that."
            )
        if launch.gpus_per_trial and profile.gpus == CPU_PROFILE:
            message = f"found {launch.gpus_per_trial:g}; the profile is for CPUs (gpus = {show(CPU_PROFILE)})"
            yield Problem("resources.gpus_per_trial", f"{message}: choose one with GPUs (--profile gpu), or write 0.")
        elif self._shared and not profile.shards_per_gpu:
            message = f"found {launch.gpus_per_trial:g}; Slurm gives whole GPUs. Write 1, or, where the cluster shares"
            yield Problem("resources.gpus_per_trial", f"{message} them (gres/shard), shards_per_gpu in the profile.")


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number of things in words: "1 CPU", "4 CPUs"."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
