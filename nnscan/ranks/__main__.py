"""A rank as a process of its own: `python -m nnscan.ranks`, started by `local_ranks`.

It reads a JSON line, which meeting it comes to and for which scan folder, and ends when its standard input closes: then
rank 0 has ended, or was killed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from nnscan.allocator import keep_memory
from nnscan.ranks import RANKS_LOST_STATUS, RanksLostError


def main() -> None:
    """Follow rank 0 until it says that this is the end; the exit status says how that was."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    keep_memory()
    status = _follow(request)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of torch may stand in calls that do not return


def _follow(request: dict[str, Any]) -> int:
    from nnscan.ranks.guest import join
    from nnscan.ranks.meeting import Meeting
    from nnscan.worker import follow  # seconds, in which rank 0 may end

    try:
        ranks = join(Meeting.of(request["meeting"]), request["rank"])
        follow(Path(request["folder"]), Path(request["code"]), ranks)
    except RanksLostError:
        return RANKS_LOST_STATUS
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def _end_with_rank_0() -> None:
    sys.stdin.read()
    os._exit(RANKS_LOST_STATUS)


if __name__ == "__main__":
    main()
