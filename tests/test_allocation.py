"""The time that a process was given, and the signals that end it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import pytest

from nnscan.allocation import Allocation, Reason, end_on


def test_what_ends_in_time_fits():
    allocation = Allocation(ends=time.time() + 100, seconds=1000)
    assert [allocation.fits(seconds) for seconds in (10, 90, 110, 900)] == [True, True, False, False]


def test_what_would_not_end_in_a_whole_allocation_fits_into_any():
    assert Allocation(ends=time.time() + 1, seconds=1000).fits(1001)


def test_everything_fits_where_nothing_ends():
    assert Allocation().fits(math.inf)


def test_of_several_reasons_the_first_stands_and_is_told_once():
    allocation, told = Allocation(), []
    with allocation.telling(told.append):
        allocation.end(Reason.TIME_LIMIT)
        allocation.end(Reason.TERMINATED)
    assert (allocation.reason, told) == (Reason.TIME_LIMIT, ["time limit"])


def test_who_listens_too_late_is_told_at_once_and_who_left_is_not():
    allocation, told, left = Allocation(), [], []
    with allocation.telling(left.append):
        pass
    allocation.end(Reason.TERMINATED)
    with allocation.telling(told.append):
        assert told == ["terminated"]
    assert (left, allocation.listeners) == ([], [])


@pytest.fixture
def handlers():
    """Puts back what signals did before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGUSR2, Reason.TIME_LIMIT), (signal.SIGTERM, Reason.TERMINATED)]
)
def test_a_signal_ends_the_allocation(number, reason):
    allocation = Allocation()
    end_on(allocation, {signal.SIGUSR2: Reason.TIME_LIMIT, signal.SIGTERM: Reason.TERMINATED})
    os.kill(os.getpid(), number)
    deadline = time.monotonic() + 10
    while allocation.reason is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert allocation.reason is reason


IN_C_CODE = """
import hashlib, signal
from nnscan.allocation import Allocation, Reason, end_on

allocation, over = Allocation(), []
end_on(allocation, {signal.SIGTERM: Reason.TERMINATED})
with allocation.telling(lambda reason: print(reason, over, flush=True)):
    print("in C code", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 4_000_000)  # seconds
    over.append("over")
"""


def test_a_signal_is_noted_while_the_main_thread_is_in_a_long_call_of_c():
    with subprocess.Popen([sys.executable, "-c", IN_C_CODE], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in C code\n"
        time.sleep(0.2)
        child.send_signal(signal.SIGTERM)
        assert child.stdout.read().splitlines() == ["terminated []"]
