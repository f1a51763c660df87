from __future__ import annotations

from typing import Any

import pytest

from nnscan.launchers.ray.driver import _workers
from nnscan.launchers.ray.ranks import placement


def request(cpus: int = 1, gpus: float = 0.0, workers: int = 0, processes: int = 1, nodes: int = 1) -> dict[str, Any]:
    of_a_trial = {"cpus_per_trial": cpus, "gpus_per_trial": gpus, "processes": processes, "nodes": nodes}
    return {**of_a_trial, "workers": workers}


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"Alive": alive, "Resources": resources}


CASES = {
    "a CPU each": (request(), [node(CPU=4)], 4),
    "several CPUs each, none across nodes": (request(cpus=3), [node(CPU=4), node(CPU=8)], 3),
    "fewer asked for": (request(workers=2), [node(CPU=4)], 2),
    "more asked for than there is room": (request(workers=9), [node(CPU=4)], 4),
    "a GPU each": (request(gpus=1.0), [node(CPU=16, GPU=2)], 2),
    "ten share a GPU": (request(gpus=0.1), [node(CPU=16, GPU=1)], 10),
    "three share a GPU": (request(gpus=0.3333), [node(CPU=16, GPU=2)], 6),
    "too few CPUs for the GPUs": (request(cpus=8, gpus=0.5), [node(CPU=16, GPU=4)], 2),
    "two GPUs each, none across nodes": (request(gpus=2.0), [node(CPU=8, GPU=3), node(CPU=8, GPU=1)], 1),
    "nodes that died": (request(), [node(CPU=4), node(alive=False, CPU=4)], 4),
    "two processes, none across nodes": (request(cpus=2, processes=2), [node(CPU=3), node(CPU=3)], 2),
    "two processes of two CPUs each": (request(cpus=4, processes=2), [node(CPU=3), node(CPU=8)], 2),
    "two processes with a GPU each": (request(cpus=2, gpus=2, processes=2), [node(CPU=8, GPU=3)], 1),
    "two processes over two nodes": (request(cpus=2, processes=2, nodes=2), [node(CPU=3), node(CPU=3)], 3),
    "a head without CPUs": (request(), [node(memory=1.0), node(CPU=2)], 2),
}


@pytest.mark.parametrize(("asked", "nodes", "workers"), CASES.values(), ids=CASES)
def test_as_many_run_at_once_as_the_nodes_take(asked: dict[str, Any], nodes: list[Any], workers: int) -> None:
    assert _workers(asked, nodes) == workers


@pytest.mark.parametrize(
    "asked",
    [request(cpus=8), request(gpus=1.0), request(cpus=8, workers=1), request(cpus=8, processes=8)],
)
def test_a_trial_that_no_node_takes_is_told_rather_than_waited_for(asked: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="the largest that a node has is 4 CPU and 0 GPU"):
        _workers(asked, [node(CPU=4), node(CPU=4)])


def test_a_trial_that_all_nodes_together_do_not_take_is_told() -> None:
    with pytest.raises(RuntimeError, match="needs 16 CPU and 0 GPU; its nodes together have 8 CPU and 0 GPU"):
        _workers(request(cpus=16, processes=4, nodes=2), [node(CPU=4), node(CPU=4)])


def test_the_processes_of_a_trial_are_given_places_at_once() -> None:
    one = placement(request(cpus=4, gpus=2, processes=2))
    assert (one.bundles, one.strategy) == ([{"CPU": 2.0, "GPU": 1.0}] * 2, "STRICT_PACK")
    assert placement(request(cpus=2, processes=2, nodes=2)).strategy == "SPREAD"
    assert placement(request()).bundles == [{"CPU": 1.0}]
