"""Which worker has which bundle: each asks for the next, and the bundle of one that dies goes to another."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnscan.bundles import Bundle, Dealer
from nnscan.failure import TRIES
from nnscan.launchers.forked.worker import Order, error_in

STARTS_IN_VAIN = 4
"""Deaths of a bundle's workers before they opened its journal, after which the launch gives up: none can start here."""

Tell = Callable[[dict[str, Any]], None]


class Lines:
    """Whole lines out of a pipe, as they come."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""

    def read(self) -> list[bytes]:
        """Wait for what comes, and return the lines that are whole."""
        *lines, self._rest = (self._rest + os.read(self.descriptor, 1 << 16)).split(b"\n")
        return lines


@dataclass(eq=False)
class Worker:
    """A worker, as the template knows it."""

    pid: int
    place: int
    """Its number among those that work at the same time; who takes over from it has the same."""
    orders: int
    """Pipe that it reads."""
    answers: Lines
    bundle: Bundle | None = None
    """What it runs; None once there is nothing more for it."""

    def give(self, order: Order) -> None:
        """Let it run a bundle; where it has died, that is noticed elsewhere."""
        self.bundle = order.bundle
        with suppress(BrokenPipeError):
            os.write(self.orders, order.line())

    def dismiss(self) -> None:
        """Let it end: there is nothing more for it."""
        self.bundle = None
        os.close(self.orders)
        self.orders = -1

    def descriptors(self) -> list[int]:
        """Return what of its pipes is open."""
        return [one for one in (self.orders, self.answers.descriptor) if one >= 0]


@dataclass
class Crew:
    """The workers of a launch, and what is left for them to do."""

    dealer: Dealer
    """Has the bundles."""
    folder: Path
    """The scan folder."""
    hire: Callable[[int, Collection[int]], Worker]
    """Starts the worker of a place, which closes the descriptors of the others."""
    tell: Tell
    """Hears what becomes of each bundle."""
    workers: dict[int, Worker] = field(default_factory=dict)
    """Those that live, by their process."""
    deaths: dict[Bundle, int] = field(default_factory=dict)
    """Of workers that had a bundle."""
    in_vain: dict[Bundle, int] = field(default_factory=dict)
    """Of those, before they opened its journal."""

    def busy(self) -> list[Worker]:
        """Return the workers that have something to do."""
        return [worker for worker in self.workers.values() if worker.bundle is not None]

    def start(self) -> None:
        """Hire all workers, each with a bundle."""
        for place in range(self.dealer.bundles.workers):
            bundle = self.dealer.deal()
            if bundle is not None:
                self._hire(place, Order(bundle, ""))

    def answered(self, worker: Worker) -> None:
        """Take what a worker answers, and give it the next bundle, or none."""
        for line in worker.answers.read():
            self._tell_bundle(worker.bundle, error_in(line))
            bundle = self.dealer.deal()
            if bundle is None:
                worker.dismiss()
            else:
                worker.give(Order(bundle, ""))

    def died(self, pid: int, status: int) -> None:
        """Take note that the process `pid` ended so, and let another take over what it had."""
        worker = self.workers.pop(pid, None)
        if worker is None:  # some child of a user's, whose parent ended
            return
        for descriptor in worker.descriptors():
            os.close(descriptor)
        if worker.bundle is not None:
            how = death(status)
            print(f"worker {pid} died in bundle {worker.bundle.name}: {how}", file=sys.stderr, flush=True)
            self._replace(worker.place, Order(worker.bundle, how))

    def _hire(self, place: int, order: Order) -> None:
        worker = self.hire(place, [one for other in self.workers.values() for one in other.descriptors()])
        self.workers[worker.pid] = worker
        worker.give(order)

    def _replace(self, place: int, order: Order) -> None:
        bundle = order.bundle
        self.deaths[bundle] = self.deaths.get(bundle, 0) + 1
        if not _was_begun(self.folder, bundle):
            self.in_vain[bundle] = self.in_vain.get(bundle, 0) + 1
        if self.in_vain.get(bundle, 0) >= STARTS_IN_VAIN:
            self.tell({"event": "error", "message": f"Workers die before they start a trial: {order.death}."})
        elif self.deaths[bundle] >= TRIES * (bundle.stop - bundle.start) + STARTS_IN_VAIN:
            self._tell_bundle(bundle, f"Its worker died again and again: {order.death}.")
        else:
            self._hire(place, order)

    def _tell_bundle(self, bundle: Bundle | None, error: str) -> None:
        assert bundle is not None  # a worker without one has nothing to answer
        self.dealer.ended(bundle)
        self.tell({"event": "bundle", "bundle": bundle.plain(), "error": error})


def _was_begun(folder: Path, bundle: Bundle) -> bool:
    return any(next((folder / table).glob(f"{bundle.name}.*"), None) for table in ("journal", "trials"))


def death(status: int) -> str:
    """Return how a process ended, out of its wait status, for people.

    Examples
    --------
    >>> death(9), death(256)
    ('it was killed (SIGKILL), which is what the kernel does where memory runs out', 'it ended with status 1')
    """
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"it ended with status {code}"
    if code == -signal.SIGKILL:
        return "it was killed (SIGKILL), which is what the kernel does where memory runs out"
    return f"signal {signal.Signals(-code).name}"
