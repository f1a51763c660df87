"""Bundles run here, one after another, in this process: for tests, debugging and a single trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnscan.bundles import Bundles
from nnscan.errors import NnscanError
from nnscan.launchers import BundleOutcome
from nnscan.launchers.here import run_here


@dataclass(frozen=True)
class InlineLauncher:
    """This process."""

    folder: Path
    """The scan folder."""
    code: Path
    """Folder that users' modules are imported from."""

    def submit(self, bundles: Bundles) -> InlineSubmission:
        """Hand over `bundles`; they run while the submission is iterated."""
        return InlineSubmission(self, bundles)


@dataclass(frozen=True)
class InlineSubmission:
    """Bundles that run while they are iterated."""

    launcher: InlineLauncher
    bundles: Bundles

    def __iter__(self) -> Iterator[BundleOutcome]:
        """Run each bundle and yield its outcome."""
        for bundle in self.bundles:
            try:
                run_here(self.launcher.folder, self.launcher.code, bundle)
            except NnscanError as error:
                yield BundleOutcome(bundle, str(error))
            else:
                yield BundleOutcome(bundle)

    def cancel(self) -> None:
        """Leave nothing behind: what ran in this process has ended with the iteration."""
