"""Processes that stay, to run functions of `on_ranks` as the ranks of a group; importing torch takes each 2 s."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TIMEOUT = timedelta(seconds=60)


@dataclass
class Ranks:
    """Up to as many as were asked for so far."""

    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    port: int = 0
    calls: int = 0

    def run(self, size: int, function: str, **arguments: Any) -> list[Any]:
        """Return what `on_ranks.function(group, **arguments)` gives on each of `size` ranks: JSON values.

        An exception comes back as {"threw": its type, "message": its text}.
        """
        self._start(size)
        self.calls += 1
        call = {"size": size, "call": self.calls, "function": function, "arguments": arguments}
        for rank, process in enumerate(self.processes[:size]):
            assert process.stdin
            process.stdin.write(json.dumps({**call, "rank": rank}) + "\n")
            process.stdin.flush()
        return [self._answer(process) for process in self.processes[:size]]

    def end(self) -> None:
        """End the processes, which have nothing left to do: leaving Python with torch in it takes a second each."""
        for process in self.processes:
            process.kill()
            process.communicate()

    def _start(self, size: int) -> None:
        if not self.port:
            from torch.distributed import TCPStore  # type: ignore[attr-defined]

            self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            self.port = self.store.port
        paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        while len(self.processes) < size:
            command = [sys.executable, __file__, str(self.port)]
            pipe = subprocess.PIPE
            self.processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))

    def _answer(self, process: subprocess.Popen[str]) -> Any:
        assert process.stdout
        line = process.stdout.readline()
        assert line, f"a rank died with status {process.wait()}"
        return json.loads(line)


def serve(port: int) -> None:
    """Answer each call that comes as a line, until no more come."""
    import torch

    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what torch prints is no answer
    for line in sys.stdin:
        print(json.dumps(answer(port, **json.loads(line))), file=answers, flush=True)


def answer(port: int, *, rank: int, size: int, call: int, function: str, arguments: dict[str, Any]) -> Any:
    """Run the function as a rank of a group that lives as long."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    from nnscan.training.group import ALONE
    from nnscan.training.together import together

    called = getattr(importlib.import_module("on_ranks"), function)
    if size == 1:
        return called(ALONE, **arguments)
    store = PrefixStore(str(call), TCPStore("127.0.0.1", port))
    group = together(store, rank, size, device="cpu", timeout=TIMEOUT)
    try:
        return called(group, **arguments)
    except Exception as error:
        return {"threw": type(error).__name__, "message": str(error)}
    finally:
        with contextlib.suppress(RuntimeError):
            group.close()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
