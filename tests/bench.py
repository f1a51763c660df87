"""A launch of all trials of a scan and the bundle that holds them, for the tests of what runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scans import TESTS

from nnscan import launch_folder
from nnscan.bundles import Bundle
from nnscan.launch_folder import Launch
from nnscan.plan import expand
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.scan import Scan
from nnscan.trial import Trial
from nnscan.worker import run_bundle


class Bench:
    """A launch of all trials of a scan, and the bundle that holds them."""

    def __init__(self, scan: Scan, path: Path, **changes: Any) -> None:
        self.folder = ScanFolder(path / "scan")
        self.folder.path.mkdir()
        plan = expand(scan)
        store.widen(self.folder, plan.schemas())
        self.trials: list[Trial] = list(plan.trials())
        name = launch_folder.new_name()
        launch = Launch(name=name, scan="s", metric=scan.metric, code=str(TESTS), data_root=str(TESTS), **changes)
        launch_folder.write(self.folder, launch, self.trials)
        self.bundle = Bundle(name, 0, len(self.trials))

    def run(self, **options: Any) -> None:
        run_bundle(self.folder.path, TESTS, self.bundle, **options)

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """Rows of the trials that ended, in the order of the plan."""
        table = store.read_trials(self.folder, ["trial", *columns]).to_pylist()
        found = {row.pop("trial"): tuple(row.values()) for row in table}
        return [found[trial.key] for trial in self.trials if trial.key in found]
