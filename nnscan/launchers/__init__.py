"""Places where bundles run. All that they share stands above this seam, in `nnscan.launching`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from nnscan.bundles import Bundle, Bundles


@dataclass(frozen=True)
class BundleOutcome:
    """What the back-end says of a bundle; what became of its trials stands in the journals alone."""

    bundle: Bundle
    error: str = ""
    """Why its worker gave the bundle up; empty where the worker came to its end."""


class Submission(Protocol):
    """Bundles that were handed over."""

    def __iter__(self) -> Iterator[BundleOutcome]:
        """Yield an outcome a bundle as they come, in any order.

        Leaving the iteration cancels nothing. Raises `LauncherError` where the back-end itself fails.
        """
        ...

    def cancel(self) -> None:
        """End every bundle; when this returns no process of the submission is left."""
        ...


class Launcher(Protocol):
    """A place where bundles run."""

    def submit(self, bundles: Bundles) -> Submission:
        """Hand over `bundles`; a trial that fails is a row, never an exception."""
        ...
