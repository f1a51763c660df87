"""The ranks but 0: each does what rank 0 says, tells what it throws, and ends when rank 0 is gone."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnscan.allocation import AllocationEndedError, Reason
from nnscan.bundles import Bundle
from nnscan.failure import Thrown, describe
from nnscan.ranks import RANKS_LOST_STATUS, RanksLostError
from nnscan.ranks.host import Said, form_group, heard, say
from nnscan.ranks.meeting import Meeting, Words, visit_store

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from nnscan.training.group import Group

WATCH_SECONDS = 0.1


def join(meeting: Meeting, rank: int) -> Guest:
    """Return rank `rank` (from 1) of a meeting whose host is there; RuntimeError where it is not."""
    guest = Guest(meeting, rank, visit_store(meeting), Words(visit_store(meeting)))
    guest.watch()
    return guest


@dataclass(frozen=True)
class Order:
    """An attempt that all ranks are to make."""

    number: int
    bundle: Bundle
    trial: str
    """Its key."""
    attempt: int
    group: int
    """Number of the group to train in."""


class Guest:
    """A rank but 0."""

    def __init__(self, meeting: Meeting, rank: int, store: Store, calls: Words) -> None:
        self.meeting = meeting
        self.rank = rank
        self.size = meeting.size
        self.leave: Callable[[int], None] = os._exit
        """Ends this process, whatever its main thread is in: a collective never returns where a rank is missing."""
        self._store = store
        self._words = Words(store)
        self._calls = calls
        """Over a connection of its own: `_words` may be waiting."""
        self._group: Group | None = None
        self._groups = -1
        self._ended = threading.Event()

    def watch(self) -> None:
        """Answer the calls of rank 0 from a thread, and end this process when it says so, or is gone."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        number = 1
        try:
            while not self._ended.wait(WATCH_SECONDS):
                if call := self._calls.take(f"call/{number}"):
                    self._calls.put(f"here/{number}/{self.rank}", True)
                    number += 1
                if call == "leave":
                    return self.leave(0)  # rank 0 knows why, and tells it
        except RuntimeError:
            if not self._ended.is_set():
                self.leave(RANKS_LOST_STATUS)

    def orders(self) -> Iterator[Order]:
        """Yield what rank 0 wants to be trained until it says that this is the end.

        Raises
        ------
        AllocationEndedError
            Where it ends because the allocation does.
        RanksLostError
            Where rank 0 is gone.
        """
        number = 0
        while (said := self._next(number))["order"] == "train":
            order = Order(number, Bundle(**said["bundle"]), said["trial"], said["attempt"], said["group"])
            yield order
            number += 1
        self._ended.set()
        self._words.put(f"bye/{self.rank}", True)
        if said["reason"]:
            raise AllocationEndedError(Reason(said["reason"]))

    def _next(self, number: int) -> Any:
        try:
            return self._words.wait_for(f"order/{number}", math.inf)
        except RuntimeError as error:
            raise RanksLostError(f"rank 0 of {self.size} is gone") from error

    def ready(self, order: Order) -> None:
        """Tell rank 0 that this rank is about to make the attempt."""
        self._words.put(f"ready/{order.number}/{self.rank}", True)

    def group(self, order: Order, device: str) -> Group:
        """Return the group of all ranks, for training on `device`."""
        if self._group is None or order.group != self._groups:
            self.drop_group()
            self._group = form_group(self._store, self.meeting, self.rank, order.group, device)
            self._groups = order.group
        return self._group

    def say(self, order: Order, error: BaseException) -> Thrown:
        """Tell all ranks what this one threw; returns where all threw alike, and else never: this process ends."""
        thrown = describe(error)
        print(thrown.traceback, flush=True)  # into this rank's log
        with self._ending_with_rank_0():
            say(self._words, order.number, Said(self.rank, thrown))
            if not self._forgiven(order):
                self.leave(0)  # rank 0 may be in a collective, which this end of a connection ends
        self.drop_group()
        return thrown

    def _forgiven(self, order: Order) -> bool:
        """Return whether rank 0 says within the grace, or within another after it threw too, that all threw alike."""
        key, grace = f"verdict/{order.number}", self.meeting.times.grace
        if self._words.wait_for(key, grace) is not None:
            return True
        rank_0_threw = any(one.rank == 0 for one in heard(self._words, order.number))
        return rank_0_threw and self._words.wait_for(key, grace) is not None

    @contextmanager
    def _ending_with_rank_0(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError:
            self.leave(RANKS_LOST_STATUS)

    def drop_group(self) -> None:
        """Leave the group."""
        group, self._group = self._group, None
        if group is not None:
            with suppress(Exception):
                group.close()
