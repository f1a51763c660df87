"""Whether the nodes of a cluster see the scan folder: a token file and one tiny job, before the first trial."""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnscan.errors import Problem, ScanError
from nnscan.launchers.slurm.command import SlurmError, run
from nnscan.launchers.slurm.request import Request
from nnscan.results.folder import ScanFolder, told, write_atomically

WAIT_SECONDS = 60.0
"""For the job to start; on a full cluster it may not, and the jobs then find out for themselves."""

LOOK_SECONDS = 0.2
ASK_SECONDS = 10.0

SCRIPT = """#!/bin/bash
# 1: a file; 2: what it must hold; 3: the file to answer in; 4: an interpreter, or nothing
[ -r "$1" ] || exit 41
[ "$(cat "$1")" = "$2" ] || exit 42
[ -z "$4" ] || [ -x "$4" ] || exit 43
printf %s "$2" > "$3" || exit 44
"""

_CHOICES = ("partition", "account", "qos", "constraint", "exclude", "reservation")

_FOUND = {
    "41": "a node does not see {folder}",
    "42": "a node has another folder at {folder}: each has its own file system there",
    "43": "a node does not see the interpreter {python}",
    "44": "a node cannot write in {folder}",
}
_REMEDY = {"43": "Install nnscan where the nodes see it, or say `python` in the profile."}
_ELSEWHERE = "Put the scan on the cluster's shared file system: --scan-dir FOLDER."


def check_visible(folder: ScanFolder, request: Request, *, seconds: float = WAIT_SECONDS) -> str:
    """Make sure that a node of the profile's partition sees and may write the scan folder.

    Asked once for all scans of a folder and a partition; the answer lies beside them, in `.cache`.

    Returns
    -------
    str
        "" where it does; else why it could not be found out in time, which is no reason to stop: the jobs look again.

    Raises
    ------
    ScanError
        Where a node does not.
    """
    memory = folder.cache / "slurm_visible.json"
    known = _known(memory)
    name = f"{request.profile.partition}|{_interpreter(request)}"
    if name in known:
        return ""
    try:
        code = _ask_a_node(folder, request, seconds)
    except SlurmError as error:
        return f"whether the nodes see {folder.path} was not found out ({error})"
    if code != "0":
        raise ScanError("slurm", [Problem("--scan-dir", _told(code, folder, request))])
    with told(memory):
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(sorted({*known, name})).encode())
    return ""


def _known(memory: Path) -> list[str]:
    with suppress(OSError, ValueError):
        return [str(name) for name in json.loads(memory.read_bytes())]
    return []


def _interpreter(request: Request) -> str:
    """Return the interpreter to look for; "" where the set-up lines make it reachable."""
    python = request.profile.python or sys.executable
    return python if python.startswith("/") and not request.profile.setup else ""


def _told(code: str, folder: ScanFolder, request: Request) -> str:
    words = _FOUND.get(code, "a node could not look at {folder} (exit status {code})")
    found = words.format(folder=folder.path, python=_interpreter(request), code=code)
    return f"{found}. {_REMEDY.get(code, _ELSEWHERE)} Nothing was submitted."


def _ask_a_node(folder: ScanFolder, request: Request, seconds: float) -> str:
    """Return the exit status of the job that looks: "0", or one that `_FOUND` explains."""
    with _token(folder) as (token, text, answer):
        asked = ["sbatch", "--parsable", *_options(request), "/dev/stdin"]
        number = run([*asked, str(token), text, str(answer), _interpreter(request)], given=SCRIPT)
        number = number.strip().partition(";")[0]  # the cluster's name follows where there are several
        try:
            return _wait(number, answer, text, seconds)
        finally:
            with suppress(SlurmError):
                run(["scancel", "--quiet", number])


@contextmanager
def _token(folder: ScanFolder) -> Iterator[tuple[Path, str, Path]]:
    """Give a file, what it holds, and the file that a node answers in; both are gone afterwards."""
    text = secrets.token_hex(16)
    token, answer = folder.path / f".seen-{text}", folder.path / f".answer-{text}"
    with told(token):
        folder.path.mkdir(parents=True, exist_ok=True)
        write_atomically(token, text.encode())
    try:
        yield token, text, answer
    finally:
        for path in (token, answer):
            path.unlink(missing_ok=True)


def _options(request: Request) -> list[str]:
    profile = request.profile
    asked = {
        "job-name": "nnscan-look",
        "output": "/dev/null",
        "chdir": "/",
        "time": "1",
        "ntasks": "1",
        "mem": "100M" if request.memory_mb else "",
        "gpus-per-node": request.typed_gpus(1) if request.gpus else "",
        **{name: getattr(profile, name) for name in _CHOICES},
    }
    return [f"--{name}={value}" for name, value in asked.items() if value]


def _wait(number: str, answer: Path, text: str, seconds: float) -> str:
    deadline, ask_at = time.monotonic() + seconds, time.monotonic() + ASK_SECONDS / 2
    while time.monotonic() < deadline:
        with suppress(OSError):
            if answer.read_text() == text:
                return "0"
        if time.monotonic() > ask_at:
            ask_at += ASK_SECONDS
            if code := ended(run(["scontrol", "--oneliner", "show", "job", number])):
                return code
        time.sleep(LOOK_SECONDS)
    raise SlurmError(f"the job {number} that looks did not start within {seconds:g} s")


def ended(text: str) -> str:
    """Return the exit status in what `scontrol show job` printed; "" where the job has not ended."""
    words = dict(word.split("=", 1) for word in text.split() if "=" in word)
    if words.get("JobState") not in ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED"):
        return ""
    return words.get("ExitCode", "").partition(":")[0]
