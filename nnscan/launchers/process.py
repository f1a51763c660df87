"""What a process that trains does first, whichever back-end started it."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def print_to_own_log(folder: Path) -> None:
    """Let this process's words go to `logs/` of the scan folder, where `nnscan logs` finds them by host and process."""
    with (folder / "logs" / f"{socket.gethostname()}-{os.getpid()}.log").open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
