"""Fixtures of the tests of training."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ranks import Ranks


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Processes that run functions of `on_ranks` together."""
    found = Ranks()
    yield found
    found.end()
