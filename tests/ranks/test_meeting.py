from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from nnscan.ranks.meeting import Meeting, Times, Words, interface_towards, keep_store, looks, visit_store
from nnscan.training.together import together

SPAWNING = multiprocessing.get_context("spawn")


def listening() -> set[str]:
    """Return where this process listens, as the kernel tells it: address and port, IPv4 in hexadecimal, backwards."""
    own = {str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}
    lines = [line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()]
    return {line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own}


def addresses(listening: set[str]) -> list[str]:
    return sorted({place.partition(":")[0] for place in listening})


LOOPBACK = "0100007F"


def meet(told: Connection, plain: dict[str, Any]) -> None:
    """Be rank 1, and tell on which addresses that makes this process listen."""
    meeting = Meeting.of(plain)
    store = PrefixStore("group", visit_store(meeting))
    with interface_towards(meeting.address):
        group = together(store, 1, 2, device="cpu", timeout=timedelta(seconds=60))
    total = group.add(torch.tensor([2.0])).item()
    told.send((total, addresses(listening())))
    told.recv()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux")
def test_ranks_of_one_machine_listen_on_the_loopback_interface_alone() -> None:
    before = listening()
    meeting, store = keep_store(2, "127.0.0.1")
    near, far = SPAWNING.Pipe()
    rank_1 = SPAWNING.Process(target=meet, args=(far, meeting.plain()))
    rank_1.start()
    try:
        with interface_towards(meeting.address):
            apart = PrefixStore("group", store)
            group = together(apart, 0, 2, device="cpu", timeout=timedelta(seconds=60))
        assert group.add(torch.tensor([1.0])).item() == 3.0
        assert near.recv() == (3.0, [LOOPBACK])
        assert addresses(listening() - before) == [LOOPBACK]
        assert "GLOO_SOCKET_IFNAME" not in os.environ
        near.send("enough")
        group.close()
    finally:
        rank_1.kill()
        rank_1.join()


def test_a_meeting_is_handed_on_as_json() -> None:
    meeting = Meeting("127.0.0.1", 4000, 2, Times(rendezvous=7.0))
    assert Meeting.of(json.loads(json.dumps(meeting.plain()))) == meeting


def test_a_store_listens_on_the_address_that_it_was_given() -> None:
    meeting, _ = keep_store(2, "127.0.0.2")
    with socket.create_connection(("127.0.0.2", meeting.port), 1):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", meeting.port), 1)


def test_an_address_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(OSError, match="assign"):
        keep_store(2, "192.0.2.1")  # of a net that is kept for examples


@pytest.fixture
def words() -> Iterator[Words]:
    _, store = keep_store(2, "127.0.0.1")
    yield Words(store)


def test_words_are_json(words: Words) -> None:
    assert words.take("order") is None
    words.put("order", {"trial": "é", "attempt": [1, 2.5, False]})
    assert words.take("order") == {"trial": "é", "attempt": [1, 2.5, False]}
    words.forget("order")
    assert words.take("order") is None


def test_waiting_for_a_word_ends(words: Words) -> None:
    started = time.monotonic()
    assert words.wait_for("order", 0.05) is None
    assert 0.05 <= time.monotonic() - started < 5
    words.put("order", 0)
    assert words.wait_for("order", 0.0) == 0


def test_one_looks_at_least_once() -> None:
    assert len(list(looks(0.0))) == 1


def test_a_users_choice_of_interface_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    monkeypatch.delenv("NCCL_SOCKET_IFNAME", raising=False)
    with interface_towards("127.0.0.1"):
        assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
        assert os.environ["NCCL_SOCKET_IFNAME"].startswith("lo")
    assert "NCCL_SOCKET_IFNAME" not in os.environ
