"""What runs inside Ray's actors: one bundle a Tune trial, in a process that lives on from bundle to bundle."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from nnscan.bundles import Bundle
from nnscan.errors import NnscanError
from nnscan.launch_folder import wait_for
from nnscan.launchers.ray.process import settle
from nnscan.launchers.ray.ranks import RankActors
from nnscan.ranks.attempts import until_the_end
from nnscan.results.folder import ScanFolder
from nnscan.worker import run_bundle


class BundleTrainable(Trainable):
    """A worker of a launch. Stands in a module of its own because Ray finds it by name."""

    def setup(self, config: dict[str, Any]) -> None:
        """Make the process a worker: its words go to `logs/`, and it does not outlive its Ray."""
        self._config = config
        settle(Path(config["folder"]))
        self._ranks = RankActors(config) if config["processes"] > 1 else None
        if config["trains_networks"]:
            from nnscan.training.network import warm_up  # seconds, while the launching process looks at the data

            warm_up()

    def step(self) -> dict[str, Any]:
        """Run the bundle; an error that is not a trial's is told: raising would repeat the bundle in a new process."""
        folder, bundle = Path(self._config["folder"]), Bundle(**self._config["bundle"])
        wait_for(ScanFolder(folder), bundle.launch)
        try:
            until_the_end(lambda: self._attempt(folder, bundle), ScanFolder(folder).logs)
        except NnscanError as error:
            return {"done": True, "error": str(error)}
        except Exception:
            return {"done": True, "error": traceback.format_exc()}
        return {"done": True, "error": ""}

    def _attempt(self, folder: Path, bundle: Bundle) -> None:
        ranks = self._ranks.host() if self._ranks else None
        run_bundle(folder, Path(self._config["code"]), bundle, ranks=ranks)

    def cleanup(self) -> None:
        """End the other ranks with this process."""
        if self._ranks:
            self._ranks.end()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next bundle in the same process: torch and the data stay where they are."""
        self._config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: trials have checkpoints of their own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: a repeated bundle skips what its journals have."""
