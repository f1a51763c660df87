from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nnscan.errors import BusyError, StoreError
from nnscan.results.folder import ScanFolder
from nnscan.results.lock import held_by, hold

HOLDER = """
import sys, time
from pathlib import Path
from nnscan.results.folder import ScanFolder
from nnscan.results.lock import hold
with hold(ScanFolder(Path(sys.argv[1])), "nnscan launch jobs/x.toml"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(folder: ScanFolder) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder until it is written to, or killed."""
    command = [sys.executable, "-c", HOLDER, str(folder.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def folder(tmp_path: Path) -> ScanFolder:
    return ScanFolder(tmp_path)


def test_the_second_is_told_who_holds_the_folder(folder: ScanFolder) -> None:
    with holder(folder) as process, pytest.raises(BusyError) as caught, hold(folder, "second"):
        pass
    text = str(caught.value)
    assert caught.value.exit_code == 2
    for part in (
        "nnscan launch jobs/x.toml",
        f"process {process.pid}",
        getpass.getuser(),
        socket.gethostname(),
        "--wait",
    ):
        assert part in text


def test_who_holds_the_folder_is_told_to_all(folder: ScanFolder) -> None:
    assert held_by(folder) == ""
    with holder(folder) as process:
        assert held_by(folder).startswith(
            f"nnscan launch jobs/x.toml, process {process.pid} of {getpass.getuser()} on "
        )
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert folder.lock.read_text()
        assert held_by(folder) == ""
    with hold(folder, "own"):
        assert held_by(folder).startswith("own, ")
    assert held_by(folder) == ""


def test_who_holds_it_on_another_host_is_believed(folder: ScanFolder) -> None:
    text = "nnscan launch x, process 999999999 of a on far, since 2026-01-01 00:00:00 +0000"
    folder.lock.write_text(text)
    assert held_by(folder) == text


def test_a_holder_that_is_killed_holds_no_more(folder: ScanFolder) -> None:
    with holder(folder) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with hold(folder, "next"):
            assert "next" in folder.lock.read_text()
            assert "jobs/x.toml" not in folder.lock.read_text()


def test_who_waits_gets_it_when_the_holder_ends(folder: ScanFolder) -> None:
    with holder(folder) as process:
        assert process.stdin
        process.stdin.write("end\n")
        process.stdin.flush()
        with hold(folder, "patient", wait=True):
            assert "patient" in folder.lock.read_text()


def test_who_waits_can_be_interrupted(folder: ScanFolder) -> None:
    waiting = HOLDER.replace('toml")', 'toml", wait=True)').replace(
        "with hold", 'print("waits", flush=True)\nwith hold'
    )
    with hold(folder, "first"):
        command = [sys.executable, "-c", waiting, str(folder.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "waits\n"
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=5)
    assert "KeyboardInterrupt" in errors


def test_one_process_does_not_hold_it_twice(folder: ScanFolder) -> None:
    with hold(folder, "first"), pytest.raises(BusyError, match="first"), hold(folder, "second"):
        pass


def test_it_is_free_and_says_nothing_after_the_block(folder: ScanFolder) -> None:
    for text in ("one", "two"):
        with pytest.raises(ZeroDivisionError), hold(folder, text):
            assert folder.lock.read_text().startswith(text)
            raise ZeroDivisionError
        assert folder.lock.read_text() == ""


def test_a_child_that_outlives_the_launch_does_not_hold_it(folder: ScanFolder) -> None:
    with hold(folder, "launch"):
        child = os.fork()  # has all files open that its parent has
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with hold(folder, "next"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_folder_that_cannot_be_locked_is_told(folder: ScanFolder) -> None:
    gone = ScanFolder(folder.path / "gone")
    with (
        pytest.raises(StoreError, match=r"cannot write in .*/gone: .*Check the disk and its rights"),
        hold(gone, "launch"),
    ):
        pass
