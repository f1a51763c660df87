"""What runs inside Ray's actors: one bundle a Tune trial, in a process that lives on from bundle to bundle."""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from ray.tune import Trainable

from nnscan.bundles import Bundle
from nnscan.errors import NnscanError
from nnscan.launch_folder import wait_for
from nnscan.results.folder import ScanFolder
from nnscan.worker import run_bundle

PARENT_SECONDS = 1.0


class BundleTrainable(Trainable):
    """A worker of a launch. Stands in a module of its own because Ray finds it by name."""

    def setup(self, config: dict[str, Any]) -> None:
        """Make the process a worker: its words go to `logs/`, and it does not outlive its Ray."""
        self._config = config
        _print_to(Path(config["folder"]) / "logs" / f"{socket.gethostname()}-{os.getpid()}.log")
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
        if config["trains_networks"]:
            from nnscan.training.network import warm_up  # seconds, while the launching process looks at the data

            warm_up()

    def step(self) -> dict[str, Any]:
        """Run the bundle; an error that is not a trial's is told: raising would repeat the bundle in a new process."""
        folder, bundle = Path(self._config["folder"]), Bundle(**self._config["bundle"])
        wait_for(ScanFolder(folder), bundle.launch)
        try:
            run_bundle(folder, Path(self._config["code"]), bundle)
        except NnscanError as error:
            return {"done": True, "error": str(error)}
        except Exception:
            return {"done": True, "error": traceback.format_exc()}
        return {"done": True, "error": ""}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next bundle in the same process: torch and the data stay where they are."""
        self._config = new_config
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: trials have checkpoints of their own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Load nothing: a repeated bundle skips what its journals have."""


def _print_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _end_with_parent(parent: int) -> None:
    """End this process when the raylet above it is gone: by themselves workers live on (measured with 2.60)."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
