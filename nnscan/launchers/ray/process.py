"""What every process of Ray that trains does first."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from nnscan.allocator import keep_memory
from nnscan.launchers.process import print_to_own_log

PARENT_SECONDS = 1.0


def settle(folder: Path) -> None:
    """Let this process's words go to `logs/` of the scan folder, and let it keep its memory and not outlive its Ray.

    Ray ends workers by SIGTERM, and would throw SystemExit into the trial, which it is not a fault of.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_memory()
    print_to_own_log(folder)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    """End this process when the raylet above it is gone: by themselves workers live on (measured with 2.60)."""
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os._exit(1)
