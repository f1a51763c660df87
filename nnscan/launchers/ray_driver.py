"""The process that drives Ray: `python -m nnscan.launchers.ray_driver`, started by `RayLauncher`.

It reads two JSON lines, what Ray it shall have and which bundles, and answers with JSON lines: an event a bundle, then
the end. When its standard input closes it ends Ray and itself.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import ray
from ray import tune

from nnscan.bundles import Bundles
from nnscan.cpus import usable_cpus
from nnscan.launchers.ray_search import EVENTS, STARTS_IN_VAIN, Cutter, Deaths, folder_name
from nnscan.launchers.ray_worker import BundleTrainable

WATCH_SECONDS = 0.5


def main() -> None:
    """Start Ray, run the bundles, and end when they have or when standard input closes."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # Ray and Tune print; their words belong into the log
    request = json.loads(sys.stdin.readline() or "null")
    for event in _events(request) if request else ():
        answers.write(json.dumps(event) + "\n")
    if ray.is_initialized():
        ray.shutdown()  # by the thread that called ray.init: from another it hangs (2.60)
        shutil.rmtree(request["ray_folder"], ignore_errors=True)
    answers.close()
    os._exit(0)  # threads of Ray may hang once its daemons are gone


def _events(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what the launching process shall know, until all is done or it has closed our input."""
    try:
        _start_ray(request)
    except Exception as error:  # whatever Ray raises ends the launch, with its text
        yield _failed(error)
        return
    for target in (_watch_daemons, _watch_input):
        threading.Thread(target=target, args=(request,), daemon=True).start()
    while (event := EVENTS.get())["event"] != "closed":
        yield event
        if event["event"] in {"end", "error"}:
            return


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
    cut = Bundles(bundles.launch, bundles.trials, workers)
    session = 0 if request["address"] else os.getsid(0)  # of a cluster that others started nothing is ended
    common = {name: request[name] for name in ("folder", "code", "trains_networks")} | {"session": session}
    tuner = tune.Tuner(
        tune.with_resources(BundleTrainable, {"cpu": request["cpus_per_trial"], "gpu": request["gpus_per_trial"]}),
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
        Where no node takes one: Tune would wait for it without end.
    """
    needs = {"CPU": request["cpus_per_trial"], "GPU": request["gpus_per_trial"]}
    have = [node["Resources"] for node in nodes if node["Alive"]]
    room = sum(_room(node, needs) for node in have)
    if not room:
        largest = {name: max((node.get(name, 0) for node in have), default=0) for name in needs}
        raise RuntimeError(f"a trial needs {_amounts(needs)}; the largest that a node has is {_amounts(largest)}.")
    return min(request["workers"] or room, room)


def _room(node: Mapping[str, float], needs: Mapping[str, float]) -> int:
    # 1 // 0.1 is 9: Ray counts in ten thousandths, so we round there.
    return min(int(node.get(name, 0) / need + 1e-4) for name, need in needs.items() if need)


def _amounts(resources: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in resources.items())


def _watch_input(request: Mapping[str, Any]) -> None:
    """Run the bundles that the second line names; standard input closes when the launching process ends or cancels."""
    if line := sys.stdin.readline():
        threading.Thread(target=_run, args=(request, Bundles(**json.loads(line))), daemon=True).start()
    while sys.stdin.read(1):
        pass
    EVENTS.put({"event": "closed"})


def _run(request: Mapping[str, Any], bundles: Bundles) -> None:
    try:
        _fit(request, bundles)
        EVENTS.put({"event": "end"})
    except Exception as error:  # as above
        EVENTS.put(_failed(error))


def _watch_daemons(_: Mapping[str, Any]) -> None:
    """Notice the death of raylet or GCS: the driver itself would hang for minutes (measured with 2.60)."""
    daemons = [child for child in psutil.Process().children() if child.name() in {"raylet", "gcs_server"}]
    while all(daemon.is_running() and daemon.status() != psutil.STATUS_ZOMBIE for daemon in daemons):
        time.sleep(WATCH_SECONDS)
    EVENTS.put({"event": "error", "message": "A daemon of Ray died. Everything that had finished is kept."})


if __name__ == "__main__":
    main()
