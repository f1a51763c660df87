"""Grids of real trials, launched as a user does, beside what others do: shared by the scripts that measure them."""

from __future__ import annotations

import shlex
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc
from whole_process import PEERS, ROOT, processor, python, run

import nnscan

WAYS = {
    "nnscan": ("--cluster", "inline", "--workers", "2"),
    "nnscan, local Ray": (),
}
"""Options of `nnscan launch`, beside which nothing is said: what may be fused is."""


@dataclass(frozen=True)
class Measured:
    """A grid that was trained, by whatever way."""

    whole: float
    """Seconds of the whole process, imports and tables and all; scaled where only a part was trained."""
    training: float
    """Seconds from the first trial's start to the last one's end, likewise."""
    gigabytes: float = 0.0


@dataclass(frozen=True)
class Way:
    """One way to train a grid."""

    name: str
    measure: Callable[[], Measured]
    scaled_by: float = 1.0
    """What it trains times this is the grid."""
    runs: list[Measured] = field(default_factory=list)


def launched(scan: str, *options: str, memory: bool = False) -> Measured:
    """Launch a scan in a new folder: nothing is cached, nothing is there."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid.toml"
        path.write_text(scan)
        done = run(python("-m", "nnscan", "launch", str(path), *options), Path(folder), memory=memory)
        trials = nnscan.read_trials(Path(folder) / "scans" / "grid")
        if not pc.all(pc.equal(trials["status"], "completed")).as_py():
            raise SystemExit("not every trial completed")
        took = pc.max(trials["ended"]).as_py() - pc.min(trials["started"]).as_py()
        return Measured(done.seconds, took.total_seconds(), done.gigabytes)


def by_hand(script: str, *arguments: object, scaled_by: float = 1.0) -> Measured:
    """Run a peer that prints `fit SECONDS` last: of what it does for every trial."""
    done = run(python(str(PEERS / script), *map(str, arguments)), ROOT)
    fit = done.told("fit")
    return Measured(done.seconds + (scaled_by - 1) * fit, scaled_by * fit)


def measure(ways: Sequence[Way], rounds: int, *, once: Sequence[str] = ()) -> None:
    """Measure all ways in turns; those named in `once` in the first round alone: they take minutes."""
    for number in range(rounds):
        for way in ways:
            if number == 0 or way.name not in once:
                way.runs.append(way.measure())
                print(f"  {way.name}: {way.runs[-1].whole:.1f} s", flush=True)


def table(title: str, ways: Sequence[Way], *, training: bool = False) -> None:
    """Print what each took, and how many times as long as the first."""
    of = (lambda run: run.training) if training else (lambda run: run.whole)
    ours = statistics.median(map(of, ways[0].runs))
    print(f"\n{title}; {processor()}\n")
    print(f"| way | {'training' if training else 'whole process'}, median (least, most) | of nnscan's time | runs |")
    print("|---|---|---|---|")
    for way in ways:
        seconds = sorted(map(of, way.runs))
        scaled = f", scaled by {way.scaled_by:g}" if way.scaled_by != 1 else ""
        middle = statistics.median(seconds)
        spread = f"{middle:.1f} s ({seconds[0]:.1f}, {seconds[-1]:.1f})"
        print(f"| {way.name} | {spread} | {middle / ours:.2f} | {len(seconds)}{scaled} |")


def options(text: str) -> tuple[str, ...]:
    """Return the options that a command line holds."""
    return tuple(shlex.split(text))
