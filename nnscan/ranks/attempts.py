"""Attempts at a bundle, each with new ranks, until one comes to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnscan.errors import LauncherError
from nnscan.ranks import RanksLostError

STARTS_IN_VAIN = 4
"""Attempts in a row in which the ranks never came together, after which the launch gives up: they cannot start here."""


def until_the_end(run: Callable[[], None], logs: Path) -> None:
    """Call `run`, which makes an attempt at a bundle, again whenever it loses ranks.

    It ends: each loss is a row of a trial, which counts against its three tries. What the ranks print lies in `logs`.

    Raises
    ------
    LauncherError
        Where the ranks come together in no attempt.
    """
    in_vain = 0
    while in_vain < STARTS_IN_VAIN:
        try:
            return run()
        except RanksLostError as error:
            in_vain = 0 if error.came else in_vain + 1
            last = str(error)
    raise LauncherError(f"The processes of a trial do not come together: {last}. {logs} holds their words.")
