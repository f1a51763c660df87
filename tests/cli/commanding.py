"""What the tests of the commands share."""

from __future__ import annotations

from collections.abc import Callable

from typer.testing import Result

Command = Callable[..., Result]
"""Runs `nnscan` with the arguments it is given, in this process."""
