"""Entries of decoded arrays: whole or not there, built once, whoever asks and whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nnscan.data import cache
from nnscan.data.cache import Manifest, array_writer, entry, open_array, read_manifest
from nnscan.errors import DataError


def build(folder: Path) -> Manifest:
    np.save(folder / "images.npy", np.arange(12, dtype=np.uint8).reshape(3, 4))
    return {"built": True}


def never(folder: Path) -> Manifest:
    raise AssertionError("built again")


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    first = entry(tmp_path / "cache" / "digits", build)
    assert entry(tmp_path / "cache" / "digits", never) == first
    assert first == {"built": True, "files": {"images.npy": 140}}


def test_arrays_open_as_maps_without_a_warning(tmp_path: Path) -> None:
    entry(tmp_path / "e", build)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = open_array(tmp_path / "e" / "images.npy")
    assert torch.equal(tensor, torch.arange(12, dtype=torch.uint8).view(3, 4))
    assert str(tmp_path / "e" / "images.npy") in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "images.npy").write_bytes(b"short"),
        lambda folder: (folder / "images.npy").unlink(),
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
    ids=["cut", "missing", "torn manifest", "no manifest"],
)
def test_a_damaged_entry_is_built_anew(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    manifest = entry(tmp_path / "e", build)
    damage(tmp_path / "e")
    assert read_manifest(tmp_path / "e") is None
    assert entry(tmp_path / "e", build) == manifest
    assert open_array(tmp_path / "e" / "images.npy").shape == (3, 4)


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="built again"):
        entry(tmp_path / "e", never)
    assert [path.name for path in tmp_path.iterdir()] == [".e.lock"]


def _slow_build(folder: Path) -> Manifest:
    with (folder.parent / "builds").open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.2)
    return build(folder)


def _ask(folder: Path) -> None:
    entry(folder, _slow_build)


def test_of_several_processes_one_builds(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")  # quick: this test starts no thread
    processes = [context.Process(target=_ask, args=(tmp_path / "e",)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len((tmp_path / "builds").read_text().splitlines()) == 1


def test_a_killed_builder_holds_nobody_up_and_its_rest_is_removed(tmp_path: Path) -> None:
    script = """
        import sys, time
        from pathlib import Path
        from nnscan.data.cache import entry
        def build(folder):
            (folder / "images.npy").write_bytes(b"half")
            print("building", flush=True)
            time.sleep(60)
        entry(Path(sys.argv[1]), build)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "e")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"building\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(list(tmp_path.glob(".e.*"))) == 2  # the lock, and the folder of the dead
    assert entry(tmp_path / "e", build)["built"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".e.lock", "e"]


def test_an_entry_that_another_node_finished_first_stays(tmp_path: Path) -> None:
    def slower(folder: Path) -> Manifest:
        other = tmp_path / "other"
        other.mkdir()
        build(other)
        (other / "manifest.json").write_text('{"by": "other", "files": {"images.npy": 140}}')
        other.rename(tmp_path / "e")
        return build(folder)

    entry(tmp_path / "e", slower)
    assert read_manifest(tmp_path / "e") == {"by": "other", "files": {"images.npy": 140}}


def _file_too_large(folder: Path) -> Manifest:
    with array_writer(folder / "images.npy", (100, 1000)) as append:
        for _ in range(100):
            append(np.zeros((1, 1000), np.uint8))
    return {}


def test_a_disk_that_fills_is_told_with_what_to_do(tmp_path: Path) -> None:
    """In a process of its own, whose files may not pass 20 kB: the kernel then answers EFBIG."""
    script = """
        import resource, signal, sys
        from pathlib import Path
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        from tests_of_cache import _file_too_large, cache
        try:
            cache.entry(Path(sys.argv[1]) / "e", _file_too_large)
        except cache.DataError as error:
            print(error)
    """
    script = script.replace("tests_of_cache", Path(__file__).stem)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert f"cannot be written to {tmp_path}: File too large." in done.stdout
    assert "--scan-dir DIR" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == [".e.lock"]


def test_other_errors_of_the_system_are_not_reworded(tmp_path: Path) -> None:
    def vanished(folder: Path) -> Manifest:
        raise FileNotFoundError(2, "No such file", "source")

    with pytest.raises(FileNotFoundError):
        entry(tmp_path / "e", vanished)


def test_a_folder_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(cache.Path, "mkdir", refused)
    with pytest.raises(DataError, match="Permission denied"):
        entry(tmp_path / "closed" / "e", build)


def test_array_writer_writes_what_numpy_reads(tmp_path: Path) -> None:
    rows = np.arange(30, dtype=np.int64).reshape(10, 3)
    with array_writer(tmp_path / "a.npy", (10, 3), "<i8") as append:
        append(rows[:4])
        append(rows[4:][:, ::-1])  # not contiguous
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.concatenate([rows[:4], rows[4:, ::-1]]))
