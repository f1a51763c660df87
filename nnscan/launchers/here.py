"""A bundle run in this process. Where several processes train a trial this one is rank 0, the others its children."""

from __future__ import annotations

from pathlib import Path

from nnscan.bundles import Bundle
from nnscan.launch_folder import read
from nnscan.ranks.attempts import until_the_end
from nnscan.ranks.host import Host
from nnscan.ranks.local import local_ranks
from nnscan.results.folder import ScanFolder


def run_here(folder: Path, code: Path, bundle: Bundle) -> None:
    """Run `bundle`, of a launch that is written in the scan folder `folder`; raises what `worker.run_bundle` does."""
    size = read(ScanFolder(folder), bundle.launch).processes
    if size == 1:
        _attempt(folder, code, bundle, None)
    else:
        until_the_end(lambda: _attempt_together(folder, code, bundle, size), ScanFolder(folder).logs)


def _attempt_together(folder: Path, code: Path, bundle: Bundle, size: int) -> None:
    with local_ranks(folder, code, bundle, size) as ranks:
        _attempt(folder, code, bundle, ranks)


def _attempt(folder: Path, code: Path, bundle: Bundle, ranks: Host | None) -> None:
    from nnscan.worker import run_bundle  # imports torch

    run_bundle(folder, code, bundle, ranks=ranks)
