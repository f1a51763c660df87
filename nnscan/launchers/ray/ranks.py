"""Ranks as actors of Ray: in the placement group of the worker that is rank 0, kept as long as it lives."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from nnscan.launchers.ray.process import settle
from nnscan.ranks.guest import join
from nnscan.ranks.host import Host, host
from nnscan.ranks.meeting import LOOPBACK, TIMES, Meeting
from nnscan.worker import follow

STARTS = 10
PAUSE_SECONDS = 2.0
"""How often others are started in place of lost ranks, and in between: Ray misses a node's heartbeat for 15 s."""


def placement(request: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Return what a bundle is given at once: a place for each of its processes, on one node or over several."""
    return tune.PlacementGroupFactory(
        [needs(request)] * request["processes"], strategy="STRICT_PACK" if request["nodes"] == 1 else "SPREAD"
    )


def needs(request: Mapping[str, Any]) -> dict[str, float]:
    """Return what a process of a trial needs."""
    processes = request["processes"]
    return {"CPU": request["cpus_per_trial"] // processes, "GPU": request["gpus_per_trial"] / processes}


class Rank:
    """A process that trains as rank 0 says."""

    def __init__(self, folder: str, trains_networks: bool) -> None:
        settle(Path(folder))
        if trains_networks:
            from nnscan.training.network import warm_up

            warm_up()

    def follow(self, rank: int, meeting: dict[str, Any], folder: str, code: str) -> None:
        """Train until rank 0 says that this is the end."""
        follow(Path(folder), Path(code), join(Meeting.of(meeting), rank))


class RankActors:
    """The ranks but 0 of one worker."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._actors = self._placed()
        self._meet()

    def host(self) -> Host:
        """Return rank 0 of ranks that live: new ones where those before were lost."""
        if self._host.lost:
            self._replace()
        return self._host

    def end(self) -> None:
        """End the ranks."""
        self._host.close()
        for actor in self._actors:
            ray.kill(actor)

    def _replace(self) -> None:
        """Start other ranks, and see them start: of a lost node Ray may not know yet, and place one there again."""
        for _ in range(STARTS):
            self.end()
            self._actors = self._placed()
            try:
                ray.get([actor.__ray_ready__.remote() for actor in self._actors], timeout=TIMES.rendezvous)
                break
            except ray.exceptions.RayError:
                time.sleep(PAUSE_SECONDS)
        self._meet()

    def _placed(self) -> list[Any]:
        return [self._actor(rank) for rank in range(1, self._config["processes"])]

    def _meet(self) -> None:
        """Let the ranks come to a new meeting and follow."""
        # Of several nodes, as the others know the one that this is.
        spread = self._config["nodes"] > 1
        address = ray.util.get_node_ip_address() if spread else LOOPBACK  # type: ignore[no-untyped-call]
        self._following: list[Any] = []
        self._host = host(self._config["processes"], address, gone=self._gone)
        told = (self._host.meeting.plain(), self._config["folder"], self._config["code"])
        self._following = [actor.follow.remote(rank, *told) for rank, actor in enumerate(self._actors, start=1)]

    def _actor(self, rank: int) -> Any:
        group = ray.util.get_current_placement_group()
        assert group is not None  # Tune has put this worker into one
        place = needs(self._config)
        options = {
            "num_cpus": place["CPU"],
            "num_gpus": place["GPU"],
            "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
        }
        return ray.remote(Rank).options(**options).remote(self._config["folder"], self._config["trains_networks"])

    def _gone(self) -> Collection[int]:
        """Return the ranks whose process died, or that follow no more."""
        if not self._following:
            return ()
        ended, _ = ray.wait(self._following, num_returns=len(self._following), timeout=0)
        return [rank for rank, following in enumerate(self._following, start=1) if following in ended]
