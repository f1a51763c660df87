"""Tells what finished scans found, as Markdown: leaderboards, retrained winners, times, seeds, hardware, versions.

python benchmarks/results.py SCAN... > docs/results.md

SCAN is what `nnscan summarize` takes: a scan folder, a name under `scans`, a scan file. Without one: every scan under
`scans` that has retrained winners.
"""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from whole_process import processor

import nnscan
from nnscan import launch_folder
from nnscan.api import scan_folder
from nnscan.launch_folder import Launch
from nnscan.plan import Plan
from nnscan.results.folder import ScanFolder
from nnscan.results.leaderboard import FamilySummary, Leader
from nnscan.results.summary import Retrained, Summary

ROWS = 5
VERSIONS = ("nnscan", "python", "torch", "torchvision", "ray", "numpy", "pyarrow")

HEAD = """# Results

Scans of `jobs/`, run as they stand there. This page is the output of `python benchmarks/results.py {scans}`.

A score is the mean over folds of the best validation value of each trial, with its standard deviation; what is tied the
folds cannot tell from the winner ([choosing.md](choosing.md)). The test set was read once, by the retrained winners;
the error of a test accuracy is that of a fraction of as many examples as the test set has, or over replicates their
standard deviation.
"""


def main(arguments: Sequence[str]) -> None:
    folders = [scan_folder(name) for name in arguments] or retrained_scans()
    if not folders:
        print("No scan under scans/ has retrained winners: nnscan launch, then nnscan retrain-best.", file=sys.stderr)
        return
    print(HEAD.format(scans=" ".join(folder.path.name for folder in folders)))
    print("\n".join(line for folder in folders for line in told(folder)))


def retrained_scans() -> list[ScanFolder]:
    return [ScanFolder(path.parent) for path in sorted(Path("scans").glob("*/models")) if any(path.iterdir())]


def told(folder: ScanFolder) -> Iterator[str]:
    """Yield the lines of one scan."""
    summary = nnscan.summarize(folder.path, top=ROWS)
    yield f"## {summary.scan}\n"
    yield f"{counts(summary)} Ranked by {summary.metric}.\n"
    for family in summary.families:
        yield from board(family)
    yield from winners(summary, folder)
    yield from (f"- {line}" for line in circumstances(folder))
    yield ""


def counts(summary: Summary) -> str:
    found = {
        state: getattr(summary.counts, state) for state in ("completed", "diverged", "failed", "running", "pending")
    }
    said = ", ".join(f"{number} {state}" for state, number in found.items() if number)
    configurations = sum(family.configurations for family in summary.families)
    return f"{configurations} configurations, {summary.counts.total} trials: {said}."


def board(family: FamilySummary) -> Iterator[str]:
    """Yield the head of a leaderboard."""
    yield f"**{family.name}**: the first {len(family.leaders)} of {family.configurations}\n"
    yield from table(["rank", *family.axes, "score", "n", "best epoch", "parameters", "seconds a trial", ""])
    for leader in family.leaders:
        yield row(
            [
                leader.rank,
                *(written(leader.hyperparameters[path]) for path in family.axes),
                spread(leader.mean, leader.std),
                leader.n,
                f"{leader.best_epoch:.1f}",
                number(leader.parameters),
                f"{leader.seconds:.1f}",
                mark(leader),
            ]
        )
    yield ""


def mark(leader: Leader) -> str:
    return "wins" if leader.winner else "tied" if leader.tied else ""


def winners(summary: Summary, folder: ScanFolder) -> Iterator[str]:
    """Yield how the retrained ones did on the test set."""
    if not summary.retrained:
        return
    yield "Retrained on the whole training set, and tested once:\n"
    heads = ["family", "configuration", "epochs", "validation", "test accuracy", "test loss", "parameters", "seconds"]
    yield from table(heads)
    for one in summary.retrained:
        yield row(result(one, folder))
    yield ""


def result(one: Retrained, folder: ScanFolder) -> list[Any]:
    return [
        one.family,
        f"`{one.configuration[:16]}`",
        one.epochs,
        spread(one.validation_mean, one.validation_std),
        tested(one, folder) if one.status == "completed" else f"{one.status}: {one.cause}",
        f"{one.test_loss:.4f}",
        number(one.parameters),
        f"{one.seconds:.1f}",
    ]


def tested(one: Retrained, folder: ScanFolder) -> str:
    """Return the test accuracy: over replicates with their standard deviation, else with that of a fraction."""
    if math.isnan(one.test_accuracy):
        return "-"
    if one.replicates > 1:
        return f"**{one.test_accuracy:.4f}** ± {one.test_accuracy_std:.4f} ({one.replicates} replicates)"
    examples = pq.read_metadata(folder.models / one.family / "predictions.parquet").num_rows
    error = math.sqrt(one.test_accuracy * (1 - one.test_accuracy) / examples)
    return f"**{one.test_accuracy:.4f}** ± {error:.4f}"


def circumstances(folder: ScanFolder) -> Iterator[str]:
    """Yield times, seeds, machine and versions."""
    trials = nnscan.read_trials(folder.path, ["launch", "seconds", "ended", "host", "device", "threads"]).to_pylist()
    launches = {launch.name: launch for launch in launch_folder.read_all(folder)}
    seconds = sum(one["seconds"] or 0 for one in trials)
    yield f"Time: {', '.join(times(launches, trials))}; {seconds:.0f} s of training in all"
    yield f"Seeds: {seeds(folder)}; the same folds, initial weights and order for all configurations"
    devices = sorted({(one["device"], one["threads"]) for one in trials})
    threads = " and ".join(
        f"{device} with {count} {'thread' if count == 1 else 'threads'} a trial" for device, count in devices
    )
    yield f"Machine: {machine({one['host'] for one in trials})}; {threads}"
    last = list(launches.values())[-1].provenance
    commit = f", commit {last['commit'][:12]}" if "commit" in last else ""
    yield f"Versions: {', '.join(f'{name} {last[name]}' for name in VERSIONS if name in last)}{commit}"


def times(launches: dict[str, Launch], trials: list[dict[str, Any]]) -> Iterator[str]:
    """Yield for each launch how long it took, from its command to its last trial's end: Ray's start included."""
    for name, launch in launches.items():
        ends = [one["ended"] for one in trials if one["launch"] == name]
        if ends:
            began = datetime.strptime(launch.provenance["time"], "%Y-%m-%d %H:%M:%S %z")
            yield f"{len(ends)} trials in {(max(ends) - began).total_seconds():.0f} s ({launch.cluster})"


def seeds(folder: ScanFolder) -> str:
    settings = pc.unique(Plan.read(folder).table["settings"].combine_chunks().dictionary).to_pylist()
    found = sorted({json.loads(text)["training"]["seed"] for text in settings})
    replicates = max(Plan.read(folder).table["replicate"].to_pylist()) + 1
    return f"training.seed {', '.join(map(str, found))}, {replicates} replicate{'s' * (replicates > 1)}"


def machine(hosts: set[str]) -> str:
    """Return what this machine is; of others the names, since rows do not say more."""
    strange = sorted(hosts - {platform.node()})
    if strange:
        return ", ".join(strange)
    return f"{processor()}, {platform.system()}"


# ------------------------------------------------------------------------------------------------ Markdown


def table(heads: Sequence[str]) -> Iterator[str]:
    yield row([head and (f"`{head}`" if "." in head else head) for head in heads])
    yield f"|{'---|' * len(heads)}"


def row(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def spread(mean: float, std: float) -> str:
    return f"{mean:.4f}" if math.isnan(std) else f"{mean:.4f} ± {std:.4f}"


def number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def written(value: Any) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    main(sys.argv[1:])
