"""What `nnscan doctor` looks at: each check is data, and says what to do where it is not well."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from nnscan.cpus import usable_cpus
from nnscan.results.folder import write_atomically
from nnscan.version import __version__

PACKAGES = (
    "torch",
    "torchvision",
    "ray",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "safetensors",
    "typer",
    "rich",
    "submitit",
)
OLDEST_PYTHON = (3, 11)
FREE_GB_WANTED = 5.0
"""A cache of decoded images and a few retrained networks fit into this."""
FREE_GB_NEEDED = 0.2
FREE_FILES_WANTED = 10_000
"""A scan makes a few files a worker and a launch, never one a trial."""
OPEN_FILES_WANTED = 1024
"""Ray's daemons and workers hold some hundreds of sockets."""
SHARED_MEMORY_GB_WANTED = 0.5
"""Ray puts its objects into /dev/shm; containers often have 64 MB of it."""


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    """nnscan works, but something is missing or tight."""
    FAIL = "fail"
    """Something that nnscan needs does not work."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    found: str
    """What was found, in one line."""
    advice: str = ""
    """What to do, where the verdict is not `ok`."""


def examine(scans: Path, data_root: Path, *, full: bool = False) -> Iterator[Check]:
    """Yield one check after another; `full` also starts Ray on this machine, which takes some seconds."""
    yield check_python()
    yield check_packages(PACKAGES)
    yield check_cpus()
    yield from check_devices()
    yield check_open_files()
    yield check_shared_memory()
    yield check_ray_start() if full else Check("ray start", Verdict.OK, "not tried; `nnscan doctor --full` starts it")
    yield check_slurm()
    yield check_data(data_root)
    yield check_writing(scans)
    yield check_disk(scans)


def check_python() -> Check:
    """Say which nnscan runs on which Python; fails below 3.11."""
    found = (
        f"nnscan {__version__}, Python {platform.python_version()} ({sys.executable}), {platform.platform(terse=True)}"
    )
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return Check("python", Verdict.OK, found)
    return Check("python", Verdict.FAIL, found, "Install Python 3.11 or newer.")


def check_packages(names: Sequence[str]) -> Check:
    """Say which versions are installed, without importing anything; fails where one is missing."""
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if not version]
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if not missing:
        return Check("packages", Verdict.OK, found)
    advice = f"Install what is missing: {sys.executable} -m pip install {' '.join(missing)}"
    return Check("packages", Verdict.FAIL, f"missing: {', '.join(missing)}; here: {found}", advice)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def check_cpus() -> Check:
    """Count the CPUs that this process may use, beside those of the machine."""
    usable, all_of_them = usable_cpus(), os.cpu_count() or 1
    found = f"{usable} usable of {all_of_them}"
    if usable == all_of_them:
        return Check("cpus", Verdict.OK, found)
    return Check("cpus", Verdict.OK, f"{found} (limited by affinity)")


def check_devices() -> Iterator[Check]:
    """Import torch and yield a check for each kind of accelerator it sees."""
    start = time.perf_counter()
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a shared library that does not load
        advice = "Install torch for this machine: https://pytorch.org/get-started/locally"
        yield Check("torch import", Verdict.FAIL, f"{type(error).__name__}: {error}".splitlines()[0], advice)
        return
    seconds = time.perf_counter() - start
    yield Check(
        "torch import", Verdict.OK, f"{seconds:.1f} s, {torch.get_num_threads()} threads by default (a trial uses 1)"
    )
    yield _check_cuda()
    if sys.platform == "darwin":
        usable = torch.backends.mps.is_available()
        yield Check("mps", Verdict.OK, "usable" if usable else "not usable: trials run on the CPU")


def _check_cuda() -> Check:
    import torch

    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        found = ", ".join(f"{device.name} ({device.total_memory / 2**30:.0f} GB)" for device in devices)
        return Check("cuda", Verdict.OK, f"{len(devices)} x: {found}")
    if shutil.which("nvidia-smi") is None:
        return Check("cuda", Verdict.OK, "no device: trials run on the CPU")
    advice = f"torch is built for CUDA {torch.version.cuda}: compare with the driver's in `nvidia-smi`."
    return Check("cuda", Verdict.WARN, "nvidia-smi is here, but torch sees no device", advice)


def check_open_files() -> Check:
    """Say how many files this process may hold open."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES_WANTED:
        return Check("open files", Verdict.OK, f"{soft} allowed")
    advice = f"Ray may run out of sockets: ulimit -n {OPEN_FILES_WANTED} (the hard limit is {hard})."
    return Check("open files", Verdict.WARN, f"{soft} allowed", advice)


def check_shared_memory(place: Path = Path("/dev/shm")) -> Check:  # noqa: S108  (no temporary file: its size is asked)
    """Say how large the shared memory is that Ray uses."""
    if not place.is_dir():
        return Check("shared memory", Verdict.OK, f"no {place} here: Ray uses files")
    free_gb = shutil.disk_usage(place).free / 1e9
    if free_gb >= SHARED_MEMORY_GB_WANTED:
        return Check("shared memory", Verdict.OK, f"{free_gb:.1f} GB free in {place}")
    advice = "Ray falls back to files, which is slower. In Docker: --shm-size=1g."
    return Check("shared memory", Verdict.WARN, f"{free_gb:.2f} GB free in {place}", advice)


def check_ray_start() -> Check:
    """Start Ray on this machine in a process of its own, run one task and stop it."""
    start = time.perf_counter()
    answer = subprocess.run(  # noqa: S603  (our own interpreter and text)
        [sys.executable, "-c", _RAY_PROBE], capture_output=True, text=True, timeout=120, check=False
    )
    seconds = time.perf_counter() - start
    if answer.returncode == 0 and "ray-probe-42" in answer.stdout:
        return Check("ray start", Verdict.OK, f"started, ran a task and stopped in {seconds:.1f} s")
    said = (answer.stderr or answer.stdout).strip().splitlines() or ["nothing was said"]
    advice = "Scans still run with --cluster inline. Ray's logs lie in /tmp/ray/session_latest/logs."
    return Check("ray start", Verdict.FAIL, said[-1], advice)


_RAY_PROBE = """
import ray
ray.init(num_cpus=1, include_dashboard=False, configure_logging=False)
print("ray-probe-%d" % ray.get(ray.remote(lambda: 42).remote()))
ray.shutdown()
"""


def check_slurm() -> Check:
    """Say whether Slurm's commands are here, and which version."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        return Check("slurm", Verdict.OK, "no sbatch on the path: not a Slurm cluster")
    answer = subprocess.run([sbatch, "--version"], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603
    if answer.returncode == 0:
        return Check("slurm", Verdict.OK, answer.stdout.strip())
    return Check(
        "slurm", Verdict.WARN, f"{sbatch} --version failed: {answer.stderr.strip()}", "Ask the cluster's support."
    )


DATA_SETS = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte*",
    "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte*",
    "cifar10": "cifar-10-batches-py/data_batch_1",
}
"""Where torchvision's data sets lie below their root."""


def check_data(root: Path) -> Check:
    """Say which data sets lie below `root`."""
    named = [name for name, pattern in DATA_SETS.items() if any(root.glob(pattern))]
    folders = [f"{path.parent.name}/ (image_folder)" for path in sorted(root.glob("*/train")) if _holds_classes(path)]
    found = ", ".join(["digits (comes along)", *named, *folders])
    return Check("data", Verdict.OK, f"{found}; below {root.absolute()}")


def _holds_classes(folder: Path) -> bool:
    return folder.is_dir() and any(child.is_dir() for child in folder.iterdir())


def check_writing(scans: Path) -> Check:
    """Write, sync, rename, lock and remove a file where scan folders lie, as a scan does."""
    place = existing_parent(scans)
    kind = file_system(place)
    try:
        with TemporaryDirectory(prefix=".doctor-", dir=place) as scratch:
            write_atomically(Path(scratch) / "row", b"42")
            _lock(Path(scratch) / "lock")
    except OSError as error:
        advice = f"Choose a folder that can be written, with --scan-dir; on {kind} flock may have to be switched on."
        return Check("scan folder", Verdict.FAIL, f"{place}: {error}", advice)
    return Check("scan folder", Verdict.OK, f"write, fsync, rename and flock work in {place} ({kind})")


def _lock(path: Path) -> None:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def existing_parent(path: Path) -> Path:
    """Return `path` itself, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(candidate for candidate in (path, *path.parents) if candidate.is_dir())


def file_system(path: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the file system that holds `path`, such as `ext4` or `nfs4`; empty where nobody says."""
    if not mounts.exists():
        return "unknown file system"
    fields = [line.split(" ") for line in mounts.read_text().splitlines()]
    holding = [(len(point), kind) for _, point, kind, *_ in fields if path.resolve().is_relative_to(point)]
    return max(holding, key=lambda found: found[0], default=(0, "unknown file system"))[1]


def check_disk(scans: Path) -> Check:
    """Say how much room the disk has on which scan folders lie."""
    place = existing_parent(scans)
    free_gb, free_files = shutil.disk_usage(place).free / 1e9, os.statvfs(place).f_favail
    found = f"{free_gb:.1f} GB free at {place}"
    if free_gb < FREE_GB_NEEDED:
        return Check("disk", Verdict.FAIL, found, "Make room, or choose another disk with --scan-dir.")
    if free_gb < FREE_GB_WANTED:
        return Check("disk", Verdict.WARN, found, f"Caches of image data and models may need {FREE_GB_WANTED:.0f} GB.")
    # Some file systems (btrfs) have no fixed number of files and say 0 of 0.
    if os.statvfs(place).f_files and free_files < FREE_FILES_WANTED:
        return Check("disk", Verdict.WARN, f"{found}, room for {free_files} files", "Remove files: inodes run out.")
    return Check("disk", Verdict.OK, found)
