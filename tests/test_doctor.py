from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest

from nnscan import doctor
from nnscan.doctor import Verdict
from nnscan.version import __version__


def fake_command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_python_names_nnscan_and_the_interpreter() -> None:
    check = doctor.check_python()
    assert check.verdict is Verdict.OK
    assert __version__ in check.found
    assert sys.executable in check.found


def test_python_below_3_11_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (99, 0))
    assert doctor.check_python().verdict is Verdict.FAIL


def test_packages_name_their_versions() -> None:
    assert f"typer {doctor.metadata.version('typer')}" in doctor.check_packages(["typer", "rich"]).found


def test_a_missing_package_fails_and_says_how_to_install_it() -> None:
    check = doctor.check_packages(["typer", "no-such-package-42"])
    assert check.verdict is Verdict.FAIL
    assert "pip install no-such-package-42" in check.advice


def test_cpus_counts_what_affinity_leaves() -> None:
    assert doctor.check_cpus().found.startswith(f"{len(os.sched_getaffinity(0))} usable")


def test_few_open_files_warn() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        check = doctor.check_open_files()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert check.verdict is Verdict.WARN
    assert "ulimit -n" in check.advice


def test_slurm_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(tmp_path, "sbatch", "echo slurm 23.11.4")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert doctor.check_slurm() == doctor.Check("slurm", Verdict.OK, "slurm 23.11.4")


def test_slurm_that_does_not_answer_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_command(tmp_path, "sbatch", "echo no slurmctld >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = doctor.check_slurm()
    assert (check.verdict, "no slurmctld" in check.found) == (Verdict.WARN, True)


def test_no_slurm_is_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_slurm().verdict is Verdict.OK


def test_data_finds_sets_and_image_folders(tmp_path: Path) -> None:
    for name in ("MNIST/raw/train-images-idx3-ubyte", "cats/train/tabby/1.png", "empty/train/readme"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    found = doctor.check_data(tmp_path).found
    assert "mnist" in found
    assert "cats/ (image_folder)" in found
    assert "cifar10" not in found
    assert "empty" not in found


def test_writing_works_and_leaves_nothing(tmp_path: Path) -> None:
    assert doctor.check_writing(tmp_path / "scans").verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []


def test_writing_where_it_is_forbidden_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    check = doctor.check_writing(Path("/proc/scans"))  # root, too, cannot write there
    assert check.verdict is Verdict.FAIL
    assert "--scan-dir" in check.advice


@pytest.mark.parametrize(("free_gb", "verdict"), [(50, Verdict.OK), (1, Verdict.WARN), (0.1, Verdict.FAIL)])
def test_disk_judges_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_gb: float, verdict: Verdict
) -> None:
    usage = type("Usage", (), {"free": free_gb * 1e9})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert doctor.check_disk(tmp_path).verdict is verdict


def test_file_system_takes_the_deepest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"disk / ext4 rw 0 0\nserver:/home {tmp_path} nfs4 rw 0 0\ndisk /other xfs rw 0 0\n")
    assert doctor.file_system(tmp_path / "deep", mounts) == "nfs4"
    assert doctor.file_system(Path("/"), mounts) == "ext4"


def test_existing_parent_climbs_to_a_folder_that_is_there(tmp_path: Path) -> None:
    assert doctor.existing_parent(tmp_path / "a" / "b") == tmp_path


def test_devices_say_that_torch_can_be_imported() -> None:
    verdicts = {check.name: check.verdict for check in doctor.check_devices()}
    assert verdicts["torch import"] is Verdict.OK
    assert "cuda" in verdicts


def test_examine_starts_ray_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = doctor.Check("ray start", Verdict.OK, "started")
    monkeypatch.setattr(doctor, "check_ray_start", lambda: started)
    assert started not in list(doctor.examine(tmp_path, tmp_path))
    assert started in list(doctor.examine(tmp_path, tmp_path, full=True))


def test_ray_that_does_not_start_fails_with_its_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_RAY_PROBE", "raise OSError('no ports left')")
    check = doctor.check_ray_start()
    assert (check.verdict, check.found) == (Verdict.FAIL, "OSError: no ports left")


@pytest.mark.slow
def test_ray_starts() -> None:
    assert doctor.check_ray_start().verdict is Verdict.OK
