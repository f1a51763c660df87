"""Where the ranks of a trial find each other: a store that rank 0 keeps, and the others come to."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

LOOPBACK = "127.0.0.1"
BACKLOG = 1024
"""Ranks that may knock at once."""

POLL_SECONDS = (0.001, 0.02)
"""Between two looks at the store: the shortest in the first second, then the longest."""


@dataclass(frozen=True)
class Times:
    """How long ranks wait for each other, in seconds."""

    rendezvous: float = 120.0
    """For all to come and to form a group: torch and a CUDA context take seconds, on a busy node a minute."""
    grace: float = 3.0
    """After a rank threw: for the others to throw the same, or to say that they live."""
    collective: float = 1800.0
    """In one operation of the group, as torch has it: rank 0 may be writing a large model meanwhile."""


TIMES = Times()
"""Those of meetings made from now on; tests change them."""


@dataclass(frozen=True)
class Meeting:
    """Where ranks meet; plain, so that it can be handed on as JSON."""

    address: str
    """Of rank 0, as the others reach it; the loopback address where all are on one machine."""
    port: int
    size: int
    """Number of ranks."""
    times: Times = field(default_factory=lambda: TIMES)

    def plain(self) -> dict[str, Any]:
        """Return its fields, for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Meeting:
        """Return the meeting that `plain` tells."""
        return cls(**{**plain, "times": Times(**plain["times"])})


def keep_store(size: int, address: str) -> tuple[Meeting, Store]:
    """Return a new meeting for `size` ranks and its store, which listens on `address` alone and ends with its process.

    Raises
    ------
    OSError
        Where this machine has no such address.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    listening = _listen(address)
    meeting = Meeting(address, listening.getsockname()[1], size)
    # torch's own socket would listen on every interface of the machine.
    store = TCPStore(
        address,
        meeting.port,
        is_master=True,
        timeout=timedelta(seconds=meeting.times.rendezvous),
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )
    return meeting, store


def _listen(address: str) -> socket.socket:
    family, kind, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind)
    listening.bind(place)
    listening.listen(BACKLOG)
    return listening


def visit_store(meeting: Meeting) -> Store:
    """Return the store of `meeting`, over a connection of its own; RuntimeError where nobody keeps it."""
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    timeout = timedelta(seconds=meeting.times.rendezvous)
    return TCPStore(meeting.address, meeting.port, is_master=False, timeout=timeout, wait_for_workers=False)


@dataclass(frozen=True)
class Words:
    """JSON in a store."""

    store: Store

    def put(self, key: str, value: Any) -> None:
        """Say something."""
        self.store.set(key, json.dumps(value))

    def take(self, key: str) -> Any:
        """Return what was said under `key`; None where nothing was. RuntimeError where the store is gone."""
        return json.loads(self.store.get(key)) if self.store.check([key]) else None

    def wait_for(self, key: str, seconds: float) -> Any:
        """Return what is said under `key`; None where nothing is within so many seconds.

        It looks again and again: torch's own waiting holds back Ctrl-C, and prints warnings where it ends in vain.
        """
        for _ in looks(seconds):
            if (said := self.take(key)) is not None:
                return said
        return None

    def forget(self, key: str) -> None:
        """Let what was said be forgotten."""
        self.store.delete_key(key)


def looks(seconds: float) -> Iterator[None]:
    """Yield at once and then again and again for so many seconds, once at their end."""
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        yield
        time.sleep(min(POLL_SECONDS[passed > 1], max(0.0, seconds - passed)))
    yield


@contextmanager
def interface_towards(address: str) -> Iterator[None]:
    """Let gloo and NCCL use the interface through which `address` is reached, in this block; a user's choice stands."""
    name = _interface(own_address(address))
    chosen = {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    added = {key: value for key, value in chosen.items() if value and key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


def own_address(address: str) -> str:
    """Return the address of this machine that packets to `address` leave from; nothing is sent."""
    family, _, _, _, place = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def _interface(address: str) -> str:
    """Return the name of the interface that has `address`; "" where none has."""
    import psutil

    wanted = ipaddress.ip_address(address)
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family in (socket.AF_INET, socket.AF_INET6) and _is(one.address, wanted):
                return name
    return ""


def _is(text: str, wanted: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return ipaddress.ip_address(text.partition("%")[0]) == wanted
