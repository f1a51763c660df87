"""The process that drives Ray: `python -m nnscan.launchers.ray.driver`, started by `RayLauncher`.

It reads two JSON lines, what Ray it shall have and which bundles, and answers with JSON lines: an event a bundle, then
the end. When its standard input closes it ends Ray and itself.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import ray
from ray import tune

from nnscan.bundles import Bundles
from nnscan.cpus import usable_cpus
from nnscan.launchers.ray.ranks import needs, placement
from nnscan.launchers.ray.search import EVENTS, STARTS_IN_VAIN, Cutter, Deaths, folder_name
from nnscan.launchers.ray.worker import BundleTrainable
from nnscan.launchers.session import end_session

BUNDLES: SimpleQueue[Bundles] = SimpleQueue()
"""What the launching process wants to have run; once."""


PASSED_ON = ("folder", "code", "trains_networks", "processes", "nodes", "cpus_per_trial", "gpus_per_trial")
"""What of the request workers are told."""


def main() -> None:
    """Start Ray, run the bundles, and end when they have or when standard input closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Ray and Tune print; their words belong into the log
    if line := sys.stdin.readline():
        request = json.loads(line)
        for target, arguments in ((_watch_input, ()), (_tell, (answers, request))):
            threading.Thread(target=target, args=arguments, daemon=True).start()
        _drive(request)  # in this thread: ray.init may hang, and sets signal handlers
        threading.Event().wait()  # `_tell` ends the process


def _tell(answers: IO[str], request: Mapping[str, Any]) -> None:
    """Tell the launching process what happens; end Ray and this process when all is done or nobody listens any more."""
    event = EVENTS.get()
    while event["event"] != "closed":
        with suppress(BrokenPipeError):
            answers.write(json.dumps(event) + "\n")
        event = {"event": "closed"} if event["event"] in {"end", "error"} else EVENTS.get()
    if not request["address"]:
        end_session(os.getsid(0))  # ray.shutdown() would take 1 to 2 s, and hang once a daemon is gone
        shutil.rmtree(request["ray_folder"], ignore_errors=True)
    os._exit(0)  # a cluster that was joined ends the workers of a driver that goes


def _drive(request: Mapping[str, Any]) -> None:
    """Start Ray, then run the bundles that come."""
    try:
        _start_ray(request)
        _fit(request, BUNDLES.get())
        EVENTS.put({"event": "end"})
    except Exception as error:  # whatever Ray raises ends the launch, with its text
        EVENTS.put(_failed(error))


def _failed(error: Exception) -> dict[str, Any]:
    return {"event": "error", "message": f"Ray failed: {type(error).__name__}: {error}"}


def _start_ray(request: Mapping[str, Any]) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if request["address"]:
        ray.init(address=request["address"], **quiet)
    else:
        cpus = request["workers"] * request["cpus_per_trial"] or usable_cpus()
        ray.init(num_cpus=cpus, include_dashboard=False, _temp_dir=request["ray_folder"], **quiet)


def _fit(request: Mapping[str, Any], bundles: Bundles) -> None:
    workers = _workers(request, ray.nodes())  # type: ignore[no-untyped-call]
    cut = replace(bundles, workers=workers)
    common = {name: request[name] for name in PASSED_ON}
    tuner = tune.Tuner(
        tune.with_resources(BundleTrainable, placement(request)),
        tune_config=tune.TuneConfig(
            search_alg=Cutter(cut, common),
            num_samples=-1,
            max_concurrent_trials=workers,
            reuse_actors=True,
            trial_dirname_creator=folder_name,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=request["storage"],
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            # A death costs its trial one of three attempts, so this is the most that can come of it.
            failure_config=tune.FailureConfig(max_failures=3 * bundles.trials + STARTS_IN_VAIN),
            callbacks=[Deaths(Path(request["folder"]))],
        ),
    )
    tuner.fit()


def _workers(request: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> int:
    """Return how many bundles run at once: as many as the nodes of Ray take, or fewer where fewer were asked for.

    Raises
    ------
    RuntimeError
        Where none can be placed: Tune would wait for it without end.
    """
    have = [node["Resources"] for node in nodes if node["Alive"]]
    room = _room(have, request)
    if not room:
        raise RuntimeError(_too_little(have, request))
    return min(request["workers"] or room, room)


def _room(nodes: Sequence[Mapping[str, float]], request: Mapping[str, Any]) -> int:
    """Return how many trials the nodes take, each whole on one of them, or with its processes over several."""
    processes = [_processes(node, needs(request)) for node in nodes]
    if request["nodes"] > 1:
        return sum(processes) // int(request["processes"])
    return sum(count // int(request["processes"]) for count in processes)


def _processes(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    return min(int(node.get(name, 0) / need) for name, need in needs.items() if need)  # 1 // 0.1 is 9


def _too_little(nodes: Sequence[Mapping[str, float]], request: Mapping[str, Any]) -> str:
    wanted = {"CPU": request["cpus_per_trial"], "GPU": request["gpus_per_trial"]}
    among = sum if request["nodes"] > 1 else max
    have = {name: among([node.get(name, 0) for node in nodes] or [0]) for name in wanted}
    where = "its nodes together have" if request["nodes"] > 1 else "the largest that a node has is"
    return f"a trial needs {_amounts(wanted)}; {where} {_amounts(have)}."


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items())


def _watch_input() -> None:
    """Take the bundles that the second line names; standard input closes when the launching process ends or cancels."""
    if line := sys.stdin.readline():
        BUNDLES.put(Bundles(**json.loads(line)))
    while sys.stdin.read(1):
        pass
    EVENTS.put({"event": "closed"})


if __name__ == "__main__":
    main()
