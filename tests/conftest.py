"""Fixtures that tests of several rooms share."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("nnscan", deadline=None)  # a busy machine is no failure
settings.load_profile("nnscan")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets: NNSCAN_TEST_DATA, else shared/data beside the checkout; skips where neither is."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("NNSCAN_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip("needs real data: NNSCAN_TEST_DATA names no folder, and there is none beside the checkout")
    return folder


@pytest.fixture(scope="session")
def slurm() -> None:
    """Skip where there is no Slurm: SLURM_CONF, as any client's, says which cluster it is.

    Its nodes must see the folders of the tests: where /tmp is not shared, pytest takes --basetemp.
    """
    if not shutil.which("sbatch"):
        pytest.skip("needs Slurm: there is no sbatch on the PATH")
    ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False)
    if "UP" not in ping.stdout:
        pytest.skip(f"needs Slurm: its controller does not answer (SLURM_CONF): {ping.stdout}{ping.stderr}".strip())
