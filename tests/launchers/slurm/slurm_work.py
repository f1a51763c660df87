"""What jobs of Slurm do in tests, in place of nnscan's supervisor; imported by name on the nodes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path


def tell(folder: str, launch: str, start: int, stop: int) -> None:
    """Note when the bundle ran, and where; then say that it came to its end."""
    began = time.time()
    time.sleep(0.2)
    note = {"start": start, "stop": stop, "began": began, "ended": time.time(), "asked": asked()}
    home = Path(folder) / "launches" / launch
    (home / f"ran-{start}.json").write_text(json.dumps(note))
    (home / "bundles").mkdir(exist_ok=True)
    (home / "bundles" / f"{start}.json").write_text(json.dumps({"error": "it rained" if start == 13 else ""}))


def asked() -> dict[str, str]:
    names = ("SLURM_JOB_NUM_NODES", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_MEM_PER_NODE", "PYTHONPATH", "TOLD")
    return {name: os.environ.get(name, "") for name in names}


def wait(folder: str, launch: str, start: int, stop: int) -> None:
    """Run until it is cancelled."""
    time.sleep(600)


def afterwards(folder: str) -> None:
    """Note when this ran."""
    (Path(folder) / "afterwards.json").write_text(json.dumps({"began": time.time()}))
