"""Bundles run here, one after another, in this process: for tests, debugging and a single trial.

Where several processes train a trial this one is rank 0, and the others are its children.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnscan.bundles import Bundle, Bundles
from nnscan.errors import NnscanError
from nnscan.launch_folder import read
from nnscan.launchers import BundleOutcome
from nnscan.ranks.attempts import until_the_end
from nnscan.ranks.host import Host
from nnscan.ranks.local import local_ranks
from nnscan.results.folder import ScanFolder


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
                self._run(bundle)
            except NnscanError as error:
                yield BundleOutcome(bundle, str(error))
            else:
                yield BundleOutcome(bundle)

    def _run(self, bundle: Bundle) -> None:
        folder = ScanFolder(self.launcher.folder)
        size = read(folder, bundle.launch).processes
        if size == 1:
            self._attempt(bundle, None)
        else:
            until_the_end(lambda: self._attempt_together(bundle, size), folder.logs)

    def _attempt_together(self, bundle: Bundle, size: int) -> None:
        with local_ranks(self.launcher.folder, self.launcher.code, bundle, size) as ranks:
            self._attempt(bundle, ranks)

    def _attempt(self, bundle: Bundle, ranks: Host | None) -> None:
        from nnscan.worker import run_bundle  # imports torch

        run_bundle(self.launcher.folder, self.launcher.code, bundle, ranks=ranks)

    def cancel(self) -> None:
        """Leave nothing behind: what ran in this process has ended with the iteration."""
