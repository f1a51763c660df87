"""The lock of a scan folder: held by a launch while it submits or runs."""

from __future__ import annotations

import errno
import fcntl
import getpass
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nnscan.errors import BusyError, StoreError
from nnscan.results.folder import ScanFolder, remedy

_WHO = re.compile(r"process (?P<process>\d+) of .* on (?P<host>\S+), since")
"""What `_who` writes."""


@contextmanager
def hold(folder: ScanFolder, text: str, wait: bool = False) -> Iterator[None]:
    """Hold the scan folder while the block runs; `text` says to others what for, such as the command.

    The system lets go of it when the process dies, however it does; the file stays, empty where nobody holds it.

    Raises
    ------
    BusyError
        Where another process, or another block of this one, holds it and `wait` is false: names the holder.
    StoreError
        Where the folder cannot be locked: it is not there, or read-only.
    """
    descriptor = _locked(folder, wait)
    try:
        _write(folder, descriptor, f"{text}\n{_who()}\n")
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
            # Closing is not enough where a child that was forked has it open too.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def held_by(folder: ScanFolder) -> str:
    """Return who holds the scan folder, by the text of the lock; "" where nobody does, as far as this host can tell."""
    try:
        text = folder.lock.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    who = _WHO.search(text)
    dead = who is not None and who["host"] == socket.gethostname() and not _is_process(int(who["process"]))
    return "" if dead else ", ".join(line for line in text.split("\n") if line)


def _is_process(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True


def _locked(folder: ScanFolder, wait: bool) -> int:
    """Return the lock file, open and locked; a new one where its folder was removed while we waited."""
    while True:
        descriptor = _open(folder)
        try:
            _acquire(folder, descriptor, wait)
            if _has_its_name(folder, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        folder.path.mkdir(parents=True, exist_ok=True)


def _has_its_name(folder: ScanFolder, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open(folder: ScanFolder) -> int:
    try:
        # Open for writing: NFS locks nothing else.
        return os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreError(_trouble(folder, error)) from error


def _acquire(folder: ScanFolder, descriptor: int, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError as error:
        raise BusyError(_busy(folder)) from error
    except OSError as error:
        raise StoreError(_trouble(folder, error)) from error


def _write(folder: ScanFolder, descriptor: int, text: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8", "replace"), 0)
    except OSError as error:
        raise StoreError(_trouble(folder, error)) from error


def _who() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"process {os.getpid()} of {_user()} on {socket.gethostname()}, since {since}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"user {os.getuid()}"


def _busy(folder: ScanFolder) -> str:
    text = folder.lock.read_text(encoding="utf-8", errors="replace")
    held = ", ".join(line for line in text.split("\n") if line) or "a process that just took it"
    return (
        f"{folder.path} is held by another launch: {held}. `nnscan status` shows how far it is; wait for its end with"
        " --wait, or end it (Ctrl-C where it runs: what has finished is kept)."
    )


def _trouble(folder: ScanFolder, error: OSError) -> str:
    if error.errno == errno.ENOLCK:
        return f"cannot lock {folder.lock}: its file system has no locks. Put the scan folder on another (--scan-dir)."
    return f"cannot write in {folder.path}: {error.strerror or error}. {remedy(error)}, then launch again."
