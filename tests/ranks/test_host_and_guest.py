"""What rank 0 makes of what the others say, and they of its words. Here ranks are threads, and a group is nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from nnscan.allocation import AllocationEndedError, Reason
from nnscan.attempt import CancelledError
from nnscan.bundles import Bundle
from nnscan.errors import StoreError
from nnscan.failure import Thrown
from nnscan.ranks import RANKS_LOST_STATUS, RanksLostError, guest, host, meeting
from nnscan.ranks.guest import Guest, Order, join
from nnscan.ranks.host import Host, NoGroupError
from nnscan.trial import Failure

BUNDLE = Bundle("l", 0, 4)


class UserError(Exception):
    """An exception of a user's own."""


def throw(text: str = "no such rate") -> None:
    raise UserError(text)


def throw_elsewhere() -> None:
    raise UserError("from another line")


def run_out_of_memory() -> None:
    raise MemoryError


@dataclass
class OtherRank:
    """A rank in a thread: at each order it does what it was told to."""

    meeting: meeting.Meeting
    rank: int
    do: Callable[[Order], None]
    silent: bool = False
    """Whether it is dead: it answers to nothing."""
    obeyed: list[Order] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    ended: BaseException | None = None

    def start(self) -> OtherRank:
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        return self

    def run(self) -> None:
        other = join(self.meeting, self.rank)
        other.leave = self.leave
        if self.silent:
            other._ended.set()
        try:
            self.obey(other)
        except BaseException as error:
            self.ended = error

    def leave(self, status: int) -> None:
        self.left.append(status)
        if threading.current_thread() is self.thread:
            raise SystemExit(status)  # of the thread alone

    def obey(self, other: Guest) -> None:
        for order in other.orders():
            self.obeyed.append(order)
            other.ready(order)
            try:
                other.group(order, "cpu")
                self.do(order)
            except UserError as error:
                other.say(order, error)
            except MemoryError as error:
                other.say(order, error)


class NoGroup:
    """A group that does nothing."""

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Wait for less; return which groups were formed."""
    formed: list[int] = []

    def form(store: object, there: object, rank: int, number: int, device: str) -> Any:
        if rank == 0:
            formed.append(number)
        return NoGroup()

    monkeypatch.setattr(meeting, "TIMES", meeting.Times(rendezvous=5.0, grace=0.5))
    monkeypatch.setattr(host, "form_group", form)
    monkeypatch.setattr(guest, "form_group", form)
    monkeypatch.setattr(guest, "WATCH_SECONDS", 0.01)
    return formed


def nothing(order: Order) -> None:
    """Train without trouble."""


def ranks(*others: Callable[[Order], None], dead: tuple[int, ...] = ()) -> tuple[Host, list[OtherRank]]:
    first = host.host(1 + len(others))
    found = [OtherRank(first.meeting, rank, do, rank in dead) for rank, do in enumerate(others, 1)]
    return first, [one.start() for one in found]


def attempt(first: Host, do: Callable[[], None], trial: str = "t", number: int = 1) -> Thrown | None:
    """Make an attempt as rank 0; return what it failed of."""
    with first.training(BUNDLE, trial, number):
        try:
            first.group("cpu")
            do()
        except (UserError, MemoryError, NoGroupError, RuntimeError) as error:
            return first.blame(error)
    return None


def wait_for(reached: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not reached() and time.monotonic() < deadline:
        time.sleep(0.005)
    return reached()


def test_all_ranks_make_the_attempts_that_rank_0_makes(quick: list[int]) -> None:
    first, others = ranks(nothing, nothing)
    assert [attempt(first, lambda: None, trial, number) for trial, number in (("a", 1), ("b", 3))] == [None, None]
    first.close()
    for other in others:
        other.thread.join(5)
        assert [(one.bundle, one.trial, one.attempt) for one in other.obeyed] == [(BUNDLE, "a", 1), (BUNDLE, "b", 3)]
        assert (other.ended, other.left) == (None, [])
    assert quick == [0]  # one group for both


def test_what_all_throw_is_told_plainly_and_the_next_group_is_new(quick: list[int]) -> None:
    first, others = ranks(lambda _: throw("mine"), lambda _: throw("mine, too"))
    for _ in range(2):
        thrown = attempt(first, throw)
        assert thrown is not None
        assert (thrown.failure, thrown.error) == (Failure.CONFIG, "UserError: no such rate")
    assert first.lost == ""
    first.close()
    assert all(wait_for(lambda other=other: not other.thread.is_alive()) for other in others)  # type: ignore[misc]
    assert [other.left for other in others] == [[], []]
    assert quick == [0, 1]


def test_ranks_may_throw_one_after_another() -> None:
    def late(order: Order) -> None:
        time.sleep(0.3)
        throw()

    first, _ = ranks(late)
    thrown = attempt(first, throw)
    assert thrown is not None
    assert (thrown.error, first.lost) == ("UserError: no such rate", "")


def in_a_collective() -> None:
    """Wait until the others are gone, as a collective does; what it raises then is not to blame."""
    time.sleep(0.8)
    raise RuntimeError("Connection closed by peer")


def test_what_one_threw_first_is_told_with_its_rank_and_the_others_end() -> None:
    first, (one, two) = ranks(lambda _: throw(), lambda _: time.sleep(9))
    thrown = attempt(first, in_a_collective)
    assert thrown is not None
    assert (thrown.failure, thrown.error) == (Failure.CONFIG, "rank 1 of 3: UserError: no such rate")
    assert "in throw" in thrown.traceback
    assert first.lost == thrown.error
    assert wait_for(lambda: one.left == [0])
    assert wait_for(lambda: two.left == [0])


def test_what_rank_0_threw_alone_is_told_with_its_rank() -> None:
    first, (other,) = ranks(lambda _: time.sleep(9))
    thrown = attempt(first, throw)
    assert thrown is not None
    assert (thrown.failure, thrown.error) == (Failure.CONFIG, "rank 0 of 2: UserError: no such rate")
    assert first.lost
    assert wait_for(lambda: other.left == [0])


def test_ranks_that_throw_in_different_lines_do_not_throw_alike() -> None:
    first, _ = ranks(lambda _: throw_elsewhere())
    thrown = attempt(first, lambda: (time.sleep(0.2), throw())[1])  # type: ignore[func-returns-value]
    assert thrown is not None
    assert thrown.error == "rank 1 of 2: UserError: from another line"
    assert first.lost


def test_a_rank_that_says_nothing_has_died_and_the_attempt_is_lost() -> None:
    first, _ = ranks(lambda _: time.sleep(9), lambda _: time.sleep(9), dead=(2,))
    thrown = attempt(first, in_a_collective)
    assert thrown is not None
    assert thrown.failure is Failure.LOST
    assert thrown.error == "rank 2 of 3 died in attempt 1 at it"
    assert "Connection closed by peer" in thrown.traceback


def test_a_rank_of_which_its_starter_knows_that_it_died_is_not_asked() -> None:
    first, _ = ranks(lambda _: time.sleep(9))
    first._gone = lambda: [1]
    thrown = attempt(first, in_a_collective)
    assert thrown is not None
    assert thrown.failure is Failure.LOST


@pytest.mark.parametrize(("device", "calls"), [("cuda:0", [True]), ("cpu", [])])
def test_on_a_gpu_rank_0_is_freed_from_waiting_for_a_rank_that_threw(
    monkeypatch: pytest.MonkeyPatch, device: str, calls: list[bool]
) -> None:
    monkeypatch.setattr(host, "WATCH_SECONDS", 0.01)
    left: list[bool] = []
    monkeypatch.setattr(host, "leave_group", lambda on_gpu: left.append(on_gpu))
    first, _ = ranks(lambda _: throw())
    with first.training(BUNDLE, "t", 1):
        first.group(device)
        time.sleep(2.0)  # as NCCL does: 0.5 s of grace, twice
        assert left == calls


@pytest.mark.parametrize(("number", "failure"), [(1, Failure.LOST), (2, Failure.OUT_OF_MEMORY)])
def test_where_one_rank_ran_out_of_memory_the_trial_is_tried_once_more(number: int, failure: Failure) -> None:
    first, _ = ranks(lambda _: run_out_of_memory())
    thrown = attempt(first, in_a_collective, number=number)
    assert thrown is not None
    assert (thrown.failure, thrown.error) == (failure, "rank 1 of 2: MemoryError")


def test_a_rank_that_does_not_come_is_told_and_no_fault_of_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "TIMES", meeting.Times(rendezvous=0.3, grace=0.1))
    first = host.host(3)
    other = OtherRank(first.meeting, 1, nothing).start()
    thrown = attempt(first, lambda: None)
    assert thrown is not None
    assert thrown.failure is Failure.LOST
    assert thrown.error == f"rank 2 of 3 did not come to 127.0.0.1:{first.meeting.port} in 0.3 s"
    assert not first.came
    assert wait_for(lambda: other.left == [0])


def test_a_rank_that_died_at_its_start_is_not_waited_for() -> None:
    first = host.host(2, gone=lambda: [1])
    started = time.monotonic()
    thrown = attempt(first, lambda: None)
    assert thrown is not None
    assert thrown.error == "rank 1 of 2 died before the ranks came together"
    assert time.monotonic() - started < 4  # not the rendezvous time


@pytest.mark.parametrize("error", [StoreError("disk full"), KeyboardInterrupt()], ids=repr)
def test_what_ends_rank_0_alone_ends_the_others(error: BaseException) -> None:
    first, (other,) = ranks(lambda _: time.sleep(9))
    with pytest.raises(type(error)), first.training(BUNDLE, "t", 1):
        raise error
    assert wait_for(lambda: other.left == [0])


@pytest.mark.parametrize("error", [CancelledError(), AllocationEndedError(Reason.TIME_LIMIT)], ids=repr)
def test_what_all_ranks_agree_on_ends_none(error: Exception) -> None:
    first, (other,) = ranks(nothing)
    with pytest.raises(type(error)), first.training(BUNDLE, "t", 1):
        raise error
    assert attempt(first, lambda: None) is None
    first.close()
    other.thread.join(5)
    assert (len(other.obeyed), other.left, other.ended) == (2, [], None)


def test_the_others_hear_why_the_allocation_ended() -> None:
    first, (other,) = ranks(nothing)
    first.ends_because = Reason.TERMINATED
    first.close()
    other.thread.join(5)
    assert isinstance(other.ended, AllocationEndedError)
    assert other.ended.reason is Reason.TERMINATED


def test_the_words_of_attempts_that_ended_are_forgotten() -> None:
    first, _ = ranks(nothing)
    for number in range(20):
        attempt(first, lambda: None, str(number))
    words = first._store
    assert words.num_keys() < 20  # type: ignore[attr-defined]


def test_when_rank_0_is_gone_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    first, (other,) = ranks(nothing)
    attempt(first, lambda: None)
    there = replace(first.meeting)
    monkeypatch.setattr(guest, "visit_store", lambda _: pytest.fail(str(there)))
    del first  # and with it the store
    assert wait_for(lambda: isinstance(other.ended, RanksLostError) or other.left == [RANKS_LOST_STATUS])
