"""Rank 0: it says what the ranks train next, and who is to blame when one of them throws or dies."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nnscan.allocation import AllocationEndedError, Reason
from nnscan.attempt import CancelledError
from nnscan.bundles import Bundle
from nnscan.failure import Thrown, describe
from nnscan.ranks.meeting import LOOPBACK, Meeting, Words, interface_towards, keep_store, looks
from nnscan.results.attempts import MEMORY_TRIES
from nnscan.training.place import TakenOverError
from nnscan.trial import Failure

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import ProcessGroup, Store

    from nnscan.training.group import Group


WATCH_SECONDS = 1.0


class NoGroupError(RuntimeError):
    """The ranks did not come together: no fault of the trial."""


def nobody() -> Collection[int]:
    """Return no rank."""
    return ()


def host(size: int, address: str = LOOPBACK, *, gone: Callable[[], Collection[int]] = nobody) -> Host:
    """Return rank 0 of `size` ranks, ready to be met at its `meeting`.

    Parameters
    ----------
    size : int
        Number of ranks, at least 2.
    address : str
        Of this machine, as the others reach it. The store listens there alone.
    gone : callable
        Returns the ranks that whoever started them knows to be dead.
    """
    meeting, store = keep_store(size, address)
    return Host(meeting, store, gone)


@dataclass(frozen=True)
class Said:
    """What a rank threw."""

    rank: int
    thrown: Thrown


class Host:
    """Rank 0, as the others see it."""

    def __init__(self, meeting: Meeting, store: Store, gone: Callable[[], Collection[int]] = nobody) -> None:
        self.meeting = meeting
        self.size = meeting.size
        self.lost = ""
        """Why the ranks cannot go on together; "" while they can."""
        self.came = False
        """Whether they have formed a group."""
        self.ends_because: Reason | None = None
        """What the others are told at the end."""
        self._store = store
        self._words = Words(store)
        self._gone = gone
        self._number = -1
        self._attempt = 1
        self._missing: set[int] = set()
        self._group: Group | None = None
        self._on_gpu = False
        self._left = threading.Event()
        """Set while there is no group."""
        self._groups = 0
        self._calls = 0

    @property
    def others(self) -> range:
        """The ranks but this."""
        return range(1, self.size)

    @contextmanager
    def training(self, bundle: Bundle, trial: str, attempt: int) -> Iterator[None]:
        """Let the others make, in this block, an attempt at the trial with key `trial`, as this rank does.

        What ends the block and is not thrown by all ranks alike ends the others too.
        """
        self._order(bundle, trial, attempt)
        try:
            yield
        except (TakenOverError, AllocationEndedError, CancelledError):
            raise
        except BaseException as error:
            self.part(describe(error).error)
            raise

    def _order(self, bundle: Bundle, trial: str, attempt: int) -> None:
        """Say what to train, and wait until all are about to; where one is missing then, `group` tells."""
        self._number += 1
        self._attempt = attempt
        order = {"order": "train", "bundle": bundle.plain(), "trial": trial, "attempt": attempt, "group": self._groups}
        self._words.put(f"order/{self._number}", order)
        missing = set(self.others)
        for _ in looks(self.meeting.times.rendezvous):
            hopeless = {*self._gone(), *(one.rank for one in self._said())}  # unless they were ready before
            missing = {rank for rank in missing if self._words.take(self._key("ready", rank)) is None}
            if not missing or missing & hopeless:
                break
        self._missing = missing
        if not missing:
            self._forget(self._number - 1)  # all have read it

    def _check_all_are_there(self) -> None:
        if dead := self._missing & set(self._gone()):
            raise NoGroupError(f"{_ranks(dead)} of {self.size} died before the ranks came together")
        if self._missing:
            where, seconds = f"{self.meeting.address}:{self.meeting.port}", f"{self.meeting.times.rendezvous:g} s"
            raise NoGroupError(f"{_ranks(self._missing)} of {self.size} did not come to {where} in {seconds}")

    def group(self, device: str) -> Group:
        """Return the group of all ranks, for training on `device`; the others ask for it at the same time.

        Raises
        ------
        NoGroupError
            Where one is missing, or they do not form one.
        """
        self._check_all_are_there()
        if self._group is None:
            try:
                self._group = form_group(self._store, self.meeting, 0, self._groups, device)
            except Exception as error:
                raise NoGroupError(f"the ranks did not form a group: {describe(error).error}") from error
            self.came = True
            self._left.clear()
            if device.startswith("cuda"):
                self._on_gpu = True
                threading.Thread(target=self._watch, daemon=True).start()
        return self._group

    def _watch(self) -> None:
        """End what this rank waits for on a GPU where another has died or thrown: NCCL itself would wait on.

        Between CPUs the death of a process closes its connections, and what waits for it raises at once.
        """
        with suppress(RuntimeError):  # the store is gone: this process ends
            while not self._left.wait(WATCH_SECONDS):
                if (self._gone() or self._said()) and not self._left.wait(2 * self.meeting.times.grace):
                    leave_group(on_gpu=True)
                    break

    def blame(self, error: BaseException) -> Thrown:
        """Return what this attempt failed of: where all ranks threw alike `error`, else what the first of them said.

        Where they did not throw alike, `lost` tells so afterwards, and the others end.
        """
        own = Said(0, describe(error))
        say(self._words, self._number, own)
        self._call("ping")
        said = self._listen(own)
        silent = set(self.others) - {one.rank for one in said}
        if not silent and all(alike(one, own) for one in said) and not isinstance(error, NoGroupError):
            self._words.put(self._key("verdict"), "go on")
            self.drop_group()
            return own.thrown
        thrown = self._culprit(said, silent, error)
        self.part(thrown.error)
        return thrown

    def _listen(self, own: Said) -> list[Said]:
        """Return what the ranks throw, in order, as soon as it is clear whether they throw alike."""
        said = [own]
        for _ in looks(self.meeting.times.grace):
            said = self._said()
            if len(said) == self.size or not all(alike(one, own) for one in said):
                break
        return said

    def _said(self) -> list[Said]:
        return heard(self._words, self._number)

    def _culprit(self, said: list[Said], silent: set[int], error: BaseException) -> Thrown:
        first = said[0]
        if first.rank:
            return self._of_rank(first)
        dead = {rank for rank in silent if rank in self._gone() or not self._answers(rank)}
        if isinstance(error, NoGroupError):
            return replace(first.thrown, failure=Failure.LOST, error=str(error))
        if dead:
            text = f"{_ranks(dead)} of {self.size} died in attempt {self._attempt} at it"
            return replace(first.thrown, failure=Failure.LOST, error=text)
        return self._of_rank(first)

    def _of_rank(self, said: Said) -> Thrown:
        thrown = replace(said.thrown, error=f"rank {said.rank} of {self.size}: {said.thrown.error}")
        if thrown.failure is Failure.OUT_OF_MEMORY and self._attempt < MEMORY_TRIES:
            return replace(thrown, failure=Failure.LOST)  # so that the next ranks try it once more
        return thrown

    def _answers(self, rank: int) -> bool:
        """Return whether a rank answered to the last call, within the grace."""
        return self._words.wait_for(f"here/{self._calls}/{rank}", self.meeting.times.grace) is not None

    def part(self, reason: str) -> None:
        """Let the others end: this meeting is over."""
        self.lost = reason
        with suppress(RuntimeError):
            self._call("leave")
        self._left.set()
        if self._group is not None:
            self._group = None
            leave_group(on_gpu=self._on_gpu)  # not close(), which may wait for a rank that stands still

    def _call(self, what: str) -> None:
        self._calls += 1
        self._words.put(f"call/{self._calls}", what)

    def drop_group(self) -> None:
        """Leave the group; the next one is new: what was under way in this one when a rank threw is not known."""
        group, self._group = self._group, None
        self._left.set()
        self._groups += 1
        if group is not None:
            with suppress(Exception):
                group.close()

    def close(self) -> None:
        """Send the others home; the store ends with this object."""
        if not self.lost:
            self._number += 1
            reason = self.ends_because.value if self.ends_because else ""
            with suppress(RuntimeError):
                self._words.put(f"order/{self._number}", {"order": "end", "reason": reason})
                self._see_off()
        self.drop_group()

    def _see_off(self) -> None:
        left = set(self.others) - set(self._gone())
        for _ in looks(self.meeting.times.grace):
            left = {rank for rank in left if self._words.take(f"bye/{rank}") is None}
            if not left:
                return

    def _forget(self, number: int) -> None:
        """Forget what was said at an order: a worker of a long scan gives many."""
        ready = [f"ready/{number}/{rank}" for rank in self.others]
        said = [f"said/{number}/{place}" for place in range(1, self.size + 1)]
        for key in (f"order/{number}", f"verdict/{number}", f"throws/{number}", *ready, *said):
            self._words.forget(key)

    def _key(self, word: str, *rest: Any) -> str:
        return "/".join(map(str, (word, self._number, *rest)))


def form_group(store: Store, meeting: Meeting, rank: int, number: int, device: str) -> Group:
    """Return the group `number` of the ranks of a meeting; each calls this at the same time."""
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    from nnscan.training.together import together

    apart = PrefixStore(f"group/{number}", store)
    rendezvous = timedelta(seconds=meeting.times.rendezvous)
    with interface_towards(meeting.address), _own_words():
        group = together(apart, rank, meeting.size, device=device, timeout=rendezvous)
    for each in (None, group.control):
        _set_timeout(timedelta(seconds=meeting.times.collective), each)
    return group


@contextmanager
def _own_words() -> Iterator[None]:
    """Leave uncaught exceptions told as they were: torch writes the rank before each line, and does so for good."""
    before = sys.excepthook
    try:
        yield
    finally:
        sys.excepthook = before


def _set_timeout(timeout: timedelta, group: ProcessGroup | None) -> None:
    from torch.distributed import distributed_c10d as c10d

    # Public since 2.12, where the older name warns.
    getattr(c10d, "set_timeout", c10d._set_pg_timeout)(timeout, group)


def leave_group(*, on_gpu: bool) -> None:
    """Leave torch's process group without waiting for anyone in it; what waits in NCCL for a dead rank ends."""
    from torch.distributed import distributed_c10d as c10d

    with suppress(Exception):  # it is left already
        (c10d._abort_process_group if on_gpu else c10d.destroy_process_group)()


def say(words: Words, number: int, said: Said) -> None:
    """Tell all ranks what one of them threw at order `number`."""
    place = words.store.add(f"throws/{number}", 1)
    words.put(f"said/{number}/{place}", {"rank": said.rank, **asdict(said.thrown)})


def heard(words: Words, number: int) -> list[Said]:
    """Return what ranks threw at order `number`, the first first."""
    found: list[Said] = []
    while (one := words.take(f"said/{number}/{len(found) + 1}")) is not None:
        rank = one.pop("rank")
        found.append(Said(rank, Thrown(**{**one, "failure": Failure(one["failure"])})))
    return found


def alike(one: Said, other: Said) -> bool:
    """Return whether two ranks threw the same: type and line; a message may name the rank's own device."""
    return _type(one) == _type(other) and one.thrown.place == other.thrown.place


def _type(said: Said) -> str:
    return said.thrown.error.partition(":")[0]


def _ranks(ranks: Collection[int]) -> str:
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(map(str, sorted(ranks)))
