from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nnscan
from nnscan.version import __version__

ROOT = Path(__file__).parent.parent


def test_the_version_is_said_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert nnscan.__version__ == __version__
    said = [path for path in (ROOT / "nnscan").rglob("*.py") if f'"{__version__}"' in path.read_text()]
    assert said == [ROOT / "nnscan" / "version.py"]


def test_the_changelog_knows_the_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_command_prints_the_version() -> None:
    answer = subprocess.run([sys.executable, "-m", "nnscan", "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"nnscan {__version__}\n"
