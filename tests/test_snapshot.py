"""Copies of the code: what is in them, and that an import takes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nnscan
from nnscan import snapshot
from nnscan.errors import ScanError


def write(home: Path, *names: str) -> None:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"NAME = {name!r}\n")


def names(files: list[Path]) -> list[str]:
    return [str(path) for path in files]


def test_without_git_environments_and_hidden_folders_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path, "train.py", "pkg/net.py", "env/lib/x.py", ".hidden/y.py", "node_modules/z.py", "data.txt")
    (tmp_path / "env" / "pyvenv.cfg").touch()
    assert names(snapshot.python_files(tmp_path)) == ["pkg/net.py", "train.py"]


def test_of_a_checkout_tracked_and_untracked_files_are_taken_as_they_are(tmp_path: Path) -> None:
    write(tmp_path, "tracked.py", "untracked.py", "ignored.py", "removed.py", "sub/deep.py")
    (tmp_path / ".gitignore").write_text("ignored.py\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "tracked.py", "removed.py", ".gitignore"], check=True)
    subprocess.run([*git, "commit", "-qm", "Begin"], check=True)
    (tmp_path / "removed.py").unlink()
    write(tmp_path, "tracked.py")
    assert names(snapshot.python_files(tmp_path)) == ["sub/deep.py", "tracked.py", "untracked.py"]
    assert names(snapshot.python_files(tmp_path / "sub")) == ["deep.py"]


def test_a_copy_is_imported_instead_of_the_edited_original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, target = tmp_path / "home", tmp_path / "launches" / "code"
    write(home, "top.py", "src/inner/net.py")
    monkeypatch.setattr(sys, "path", [str(home), str(home / "src"), *sys.path])
    path = snapshot.take(home, target)
    assert path == (target, target / "src")
    write(home, "top.py")
    (home / "top.py").write_text("NAME = 'edited'\n")
    program = "import top, inner.net, nnscan; print(top.NAME, inner.net.NAME, nnscan.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(map(str, path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["top.py", "src/inner/net.py", str(target / "nnscan" / "__init__.py")]


def test_an_installed_nnscan_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot.sysconfig, "get_path", lambda name: str(Path(nnscan.__file__).parents[1]))
    write(tmp_path, "home/train.py")
    snapshot.take(tmp_path / "home", tmp_path / "code")
    assert names(snapshot.python_files(tmp_path / "code")) == ["train.py"]


def test_a_disk_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MOST_FILES", 2)
    write(tmp_path, "a.py", "b.py", "c.py")
    with pytest.raises(ScanError, match="more than 2 Python files"):
        snapshot.take(tmp_path, tmp_path / "code")
    assert not (tmp_path / "code").exists()
