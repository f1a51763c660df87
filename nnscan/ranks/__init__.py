"""How the processes that train a trial together find each other, run in lockstep and end together.

Rank 0 is the worker: it writes, and it says what is trained next. It is the host of a meeting, a store of torch's that
the others, its guests, come to. Orders go through that store, and what a rank threw: JSON, never a pickle, and nothing
that names code. What the ranks compute together goes through a group (`nnscan.training.group`).
"""

from __future__ import annotations

RANKS_LOST_STATUS = 77
"""Exit status of a rank whose rank 0 is gone."""


class RanksLostError(Exception):
    """Ranks of a trial died, threw what the others did not, or never came: its row says which; others are needed."""

    def __init__(self, message: str, *, came: bool = True) -> None:
        super().__init__(message)
        self.came = came
        """Whether the ranks had ever trained together."""
