"""What every process of Ray that trains does first."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

PARENT_SECONDS = 1.0


def settle(folder: Path) -> None:
    """Let this process's words go to `logs/` of the scan folder, and let it not outlive its Ray."""
    _print_to(folder / "logs" / f"{socket.gethostname()}-{os.getpid()}.log")
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _print_to(log: Path) -> None:
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _end_with_parent(parent: int) -> None:
    """End this process when the raylet above it is gone: by themselves workers live on (measured with 2.60)."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
