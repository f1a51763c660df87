"""Arrays that are made once and mapped into memory by every process that needs them.

An entry is a folder of `.npy` files and `manifest.json`. It is built beside its place, under a lock, and renamed into
it, so whoever sees it sees it whole. Where nodes do not see each other's locks both may build it; the later drops its
own.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nnscan.errors import DataError
from nnscan.results.folder import write_atomically

MANIFEST = "manifest.json"

Manifest = dict[str, Any]
"""What the builder of an entry wrote down about it; `files` has the size of each file in bytes."""

Build = Callable[[Path], Manifest]
"""Writes the `.npy` files of an entry into the folder it is given and returns what to write down about them."""


def entry(folder: Path, build: Build) -> Manifest:
    """Return the manifest of the entry `folder`, which is built first where it is missing or damaged.

    Of several processes one builds and the others wait. The lock is the kernel's: a builder that dies lets go of it.

    Raises
    ------
    DataError
        Where the entry cannot be written: full disk, read-only folder.
    """
    manifest = read_manifest(folder)
    if manifest is not None:
        return manifest
    with _told(folder), _locked(folder):
        return read_manifest(folder) or _built(folder, build)


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of the entry `folder`; None where there is none, or a file has not the size it had."""
    try:
        manifest: Manifest = json.loads((folder / MANIFEST).read_bytes())
        whole = all((folder / name).stat().st_size == size for name, size in manifest["files"].items())
    except (OSError, ValueError, KeyError):
        return None
    return manifest if whole else None


def open_array(path: Path) -> Tensor:
    """Return a `.npy` file as a tensor that is mapped from disk, read as it is touched and shared by all processes.

    Writing to it ends the process: the map is read-only. A private copy-on-write map would be refused by Linux where it
    is larger than memory.
    """
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # so it is meant to be
        return torch.from_numpy(array)


@contextmanager
def array_writer(path: Path, shape: tuple[int, ...], dtype: str = "|u1") -> Iterator[Callable[[NDArray[Any]], None]]:
    """Give a function that appends to a `.npy` file of `shape`, which so need not fit in memory.

    Written rather than mapped: a full disk is then an OSError, in a map it kills the process (SIGBUS).
    """
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        start = file.tell()
        yield lambda rows: _append(file, rows, dtype)
        assert file.tell() - start == math.prod(shape) * np.dtype(dtype).itemsize


def _append(file: IO[bytes], rows: NDArray[Any], dtype: str) -> None:
    file.write(np.ascontiguousarray(rows, dtype=dtype).data)


def _built(folder: Path, build: Build) -> Manifest:
    ours = f".{folder.name}.{socket.gethostname()}."
    for abandoned in folder.parent.glob(f"{ours}*"):  # their builders are dead: we hold this host's lock
        shutil.rmtree(abandoned, ignore_errors=True)
    aside = folder.with_name(f"{ours}{uuid4().hex}")
    aside.mkdir()
    try:
        manifest = build(aside)
        manifest["files"] = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
        write_atomically(aside / MANIFEST, json.dumps(manifest, indent=1).encode())
        _put(aside, folder)
        return manifest
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put(aside: Path, folder: Path) -> None:
    """Rename `aside` to `folder`; a damaged one that is there goes, a whole one (another node's) stays."""
    if folder.exists() and read_manifest(folder) is None:
        shutil.rmtree(folder)
    try:
        aside.rename(folder)
    except OSError:
        if read_manifest(folder) is None:
            raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn what the file system refuses into a DataError that says what to do."""
    refusals = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
    try:
        yield
    except OSError as error:
        if error.errno not in refusals:
            raise
        raise DataError(
            f"The decoded data cannot be written to {folder.parent}: {error.strerror}. Make room or make it writable,"
            " or run the scan elsewhere with --scan-dir DIR."
        ) from error
