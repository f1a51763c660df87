from __future__ import annotations

from typing import Any

import pytest

from nnscan.launchers.ray_driver import _workers


def request(cpus: int = 1, gpus: float = 0.0, workers: int = 0) -> dict[str, Any]:
    return {"cpus_per_trial": cpus, "gpus_per_trial": gpus, "workers": workers}


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
    "a head without CPUs": (request(), [node(memory=1.0), node(CPU=2)], 2),
}


@pytest.mark.parametrize(("asked", "nodes", "workers"), CASES.values(), ids=CASES)
def test_as_many_run_at_once_as_the_nodes_take(asked: dict[str, Any], nodes: list[Any], workers: int) -> None:
    assert _workers(asked, nodes) == workers


@pytest.mark.parametrize("asked", [request(cpus=8), request(gpus=1.0), request(cpus=8, workers=1)])
def test_a_trial_that_no_node_takes_is_told_rather_than_waited_for(asked: dict[str, Any]) -> None:
    with pytest.raises(RuntimeError, match="the largest that a node has is 4 CPU and 0 GPU"):
        _workers(asked, [node(CPU=4), node(CPU=4)])
