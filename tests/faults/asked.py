"""Commands that read a scan folder, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nnscan


def ask(command: str, scan: Path) -> subprocess.CompletedProcess[str]:
    """Run `nnscan COMMAND SCAN` in the folder of the scan file; both outputs stand in `stdout`."""
    return subprocess.run(
        [sys.executable, "-m", "nnscan", command, str(scan)],
        cwd=scan.parent,
        env={**os.environ, "PYTHONPATH": str(Path(nnscan.__file__).parents[1])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
