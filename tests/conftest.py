"""Fixtures that tests of several rooms share."""

from __future__ import annotations

import os
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
