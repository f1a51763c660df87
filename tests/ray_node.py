"""Nodes of a Ray cluster on this machine, started as an administrator does."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnscan.launchers.session import end_session

START_SECONDS = 120.0  # on a machine that does much else


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def ray_node(address: str, cpus: int, *, head: bool = True) -> Iterator[int]:
    """Start a node of the cluster at `address`, its head or another; give the session of its processes."""
    host, _, port = address.partition(":")
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        own = ("--head", "--include-dashboard=false", f"--port={port}", f"--temp-dir={folder}")
        arguments = (
            *("start", "--block", "--disable-usage-stats", f"--node-ip-address={host}", f"--num-cpus={cpus}"),
            *(own if head else (f"--address={address}",)),
        )
        command = [sys.executable, "-m", "ray.scripts.scripts", *arguments]
        with (Path(folder) / "start.log").open("w+b") as log:
            node = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
            try:
                _wait(node, Path(log.name))
                yield node.pid
            finally:
                end_session(node.pid)
                node.wait()


def _wait(node: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while "Ray runtime started" not in log.read_text():
        assert node.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
