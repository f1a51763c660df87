"""A worker: a process forked from the template, which runs one bundle after another until no more come."""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from nnscan.bundles import Bundle
from nnscan.errors import NnscanError
from nnscan.launch_folder import wait_for
from nnscan.launchers.forked.kernel import call_this_process, end_with
from nnscan.launchers.here import run_here
from nnscan.launchers.process import print_to_own_log
from nnscan.results.folder import ScanFolder
from nnscan.results.journal import Cause, Death
from nnscan.results.store import close_journals

NAME = "nnscan-worker"


@dataclass(frozen=True)
class Duty:
    """What a worker is told before its first bundle."""

    folder: Path
    """The scan folder."""
    code: Path
    """Folder that users' modules are imported from."""
    gpus: str
    """That this worker may see, as CUDA_VISIBLE_DEVICES takes them; "" where the launch asks for none."""


@dataclass(frozen=True)
class Order:
    """A bundle to be run."""

    bundle: Bundle
    death: str
    """How the worker died that had it before; "" where none had."""

    def line(self) -> bytes:
        """Return it as a line for a pipe."""
        return json.dumps({"bundle": self.bundle.plain(), "death": self.death}).encode() + b"\n"

    @classmethod
    def of(cls, line: str) -> Order:
        """Return the order that a line tells."""
        told = json.loads(line)
        return cls(Bundle(**told["bundle"]), told["death"])


def work(duty: Duty, orders: int, answers: int, parent: int) -> NoReturn:
    """Run the bundles that come through the pipe `orders`, answer a line each through `answers`, and end.

    Called in a process just forked from `parent`, to whose code it does not return.
    """
    status = 1
    try:
        _settle(duty, parent)
        with os.fdopen(orders) as lines:
            for line in lines:
                os.write(answers, answer(_error(duty, Order.of(line))))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # threads of torch may stand in calls that do not return


def _settle(duty: Duty, parent: int) -> None:
    """Make the process a worker: it ends with its parent, and has a log and GPUs of its own."""
    end_with(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    call_this_process(NAME)
    print_to_own_log(duty.folder)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # whoever follows the log reads along
    if duty.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = duty.gpus  # read when this process first asks for a GPU


def _error(duty: Duty, order: Order) -> str:
    """Run a bundle; return why it was given up, "" where it came to its end."""
    folder, bundle = ScanFolder(duty.folder), order.bundle
    try:
        wait_for(folder, bundle.launch)
        if order.death:
            close_journals(folder, lambda name: name == bundle.name, Cause.LOST, Death(order.death))
        run_here(duty.folder, duty.code, bundle)
    except NnscanError as error:
        return str(error)
    except Exception:
        return traceback.format_exc()
    return ""


def answer(error: str) -> bytes:
    """Return the line that a worker answers with."""
    return json.dumps({"error": error}).encode() + b"\n"


def error_in(line: bytes) -> str:
    """Return what a worker's answer tells."""
    return str(json.loads(line)["error"])
