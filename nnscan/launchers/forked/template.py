"""The process that workers are forked from: `python -m nnscan.launchers.forked.template`, started by `ForkedLauncher`.

It has imported what training imports, so a fork of it trains at once, and has one thread and no GPU, so a fork of it is
whole. It reads two JSON lines, what workers are to be told and which bundles, and answers with JSON lines: an event a
bundle, then the end. When its standard input closes it ends its session, workers and all.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any

from nnscan.allocator import keep_memory
from nnscan.bundles import Bundles, Dealer
from nnscan.launchers.forked.crew import Crew, Lines, Worker
from nnscan.launchers.forked.gpus import share
from nnscan.launchers.forked.kernel import call_this_process, end_with
from nnscan.launchers.forked.worker import Duty, work
from nnscan.launchers.session import end_session

NAME = "nnscan-template"
STDIN = 0


def main() -> None:
    """Get ready, run the bundles that are asked for, and end when standard input closes."""
    signal.signal(signal.SIGTERM, _end)
    call_this_process(NAME)
    keep_memory()  # and so do its forks
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever is printed belongs into the log
    if line := sys.stdin.readline():
        request = json.loads(line)
        end_with(request["launcher"], signal.SIGTERM)
        warm_up(trains_networks=request["trains_networks"], on_gpus=bool(request["gpus"]))
        if line := sys.stdin.readline():
            _run(request, Bundles(**json.loads(line)), answers)
            sys.stdin.read()
    _end()


def _end(*_: object) -> None:
    """End the session: every worker, what they have started, and this process."""
    end_session(os.getsid(0))
    os._exit(0)


def warm_up(*, trains_networks: bool, on_gpus: bool) -> None:
    """Import what a worker needs, and take a step of a network where one is to be trained.

    No step where trials take GPUs: it starts a thread of autograd for each, and asks the driver about them, neither of
    which a forked process survives. The first step of a worker takes 9 ms then instead of 8: the imports are the rest.
    """
    import pyarrow as pa

    import nnscan.worker  # noqa: F401

    pa.array([0])  # here Arrow imports pandas, where that is installed: 0.2 s
    if trains_networks:
        from nnscan.training import network

        if not on_gpus:
            network.warm_up()
    gc.collect()
    gc.freeze()  # a collection in a worker would write to, and so copy, every page that it shares


def _run(request: Mapping[str, Any], bundles: Bundles, answers: IO[str]) -> None:
    """Return when all bundles have ended and that is told, or when the launching process closes standard input."""
    deaths = _pipe_of_deaths()
    fork = partial(_fork, request, (STDIN, answers.fileno(), *deaths))
    crew = Crew(Dealer(bundles), Path(request["folder"]), fork, partial(_tell, answers))
    crew.start()
    while crew.workers:
        ready = set(wait([STDIN, deaths[0], *(worker.answers.descriptor for worker in crew.busy())]))
        for worker in crew.busy():
            if worker.answers.descriptor in ready:
                crew.answered(worker)
        if deaths[0] in ready:
            os.read(deaths[0], 1 << 16)
            for pid, status in _ended_children():
                crew.died(pid, status)
        if STDIN in ready:
            return
    _tell(answers, {"event": "end"})


def _tell(answers: IO[str], event: Mapping[str, Any]) -> None:
    with suppress(BrokenPipeError):  # the launching process is gone: standard input is closed, too
        answers.write(json.dumps(event) + "\n")


def _pipe_of_deaths() -> tuple[int, int]:
    """Return a pipe that bytes come through when a child ends; its own pipes may stay open in a child of its own."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only signals with a handler in Python are written to the pipe
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    return reading, writing


def _ended_children() -> Iterator[tuple[int, int]]:
    """Yield process and wait status of each child that has ended."""
    with suppress(ChildProcessError):  # there is none at all
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def _fork(request: Mapping[str, Any], own: Collection[int], place: int, others: Collection[int]) -> Worker:
    """Start the worker of a place; it closes the descriptors that are the template's `own`, or those of `others`."""
    orders, answers = os.pipe(), os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        signal.set_wakeup_fd(-1)
        for descriptor in (*own, *others, orders[1], answers[0]):
            os.close(descriptor)  # a pipe that stays open here would not end with the process whose it is
        gpus = share(place, request["gpus_per_trial"], request["gpus"])
        duty = Duty(Path(request["folder"]), Path(request["code"]), gpus)
        work(duty, orders[0], answers[1], parent)
    os.close(orders[0])
    os.close(answers[1])
    return Worker(pid, place, orders[1], Lines(answers[0]))


if __name__ == "__main__":
    main()
