"""What `nnscan launch --dry-run` says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnscan.cli.wording import clock, count
from nnscan.results.wording import value_text

if TYPE_CHECKING:
    from nnscan.estimate import Estimate, FamilyEstimate, SlurmEstimate

MOST_ARRAYS = 5
MOST_VALUES = 8
"""Of an axis that are written out."""


def estimate_lines(estimate: Estimate) -> Iterator[str]:
    """Yield the axes of each family, what there is to run, how long that takes, and whether the data are there."""
    for family in estimate.families:
        yield from _family_lines(family)
    yield f"{count(estimate.configurations, 'configuration')}, {count(estimate.trials, 'trial')}: {_states(estimate)}"
    yield _work(estimate)
    if estimate.slurm:
        yield from slurm_lines(estimate.slurm)
    yield f"Data: {'found' if estimate.data_found else estimate.data_message}"
    yield from (f"Weights: {value_text(name)} is {path}" for name, path in estimate.weights.items())


def _family_lines(family: FamilyEstimate) -> Iterator[str]:
    yield f"{family.name}: {_configurations(family)}, {count(family.trials, 'trial')}"
    paths = max((len(path) for path in family.axes), default=0)
    for path, values in family.axes.items():
        shown = ", ".join(_value(value) for value in values[:MOST_VALUES])
        more = ", ..." if len(values) > MOST_VALUES else ""
        yield f"  {path:<{paths}}  {len(values):>3}  {shown}{more}"


def _configurations(family: FamilyEstimate) -> str:
    """How many; and of how many combinations of the axes, where some vary together or belong to one grid of several."""
    combinations = math.prod(map(len, family.axes.values()))
    of = f" of {combinations:,} combinations" if combinations > family.configurations else ""
    return f"{count(family.configurations, 'configuration')}{of}"


def _value(value: Any) -> str:
    return value_text(value) if isinstance(value, str) else json.dumps(value)


def _states(estimate: Estimate) -> str:
    parts = [f"{estimate.done} done", f"{estimate.to_run} to run"]
    if estimate.elsewhere:
        parts.append(f"{estimate.elsewhere} in jobs of earlier launches")
    if estimate.failed:
        parts.append(f"{estimate.failed} failed (--retry-failed runs them again)")
    later = estimate.trials - estimate.done - estimate.failed - estimate.to_run - estimate.elsewhere
    if later > 0:
        parts.append(f"{later} left for later")
    return ", ".join(parts)


def _work(estimate: Estimate) -> str:
    if not estimate.to_run:
        return "Nothing is left to do."
    at_once = f"in {count(estimate.bundles, 'bundle')}, {estimate.workers} at once"
    if estimate.seconds is None:
        return f"They run {at_once}. How long is known once a trial has finished."
    return f"They run {at_once}: about {clock(estimate.seconds)}, by what finished trials took."


def slurm_lines(slurm: SlurmEstimate) -> Iterator[str]:
    """Yield the arrays that would be submitted, the GPU-hours, and the script of the first."""
    if slurm.note:
        yield f"Planned without the cluster: {slurm.note}"
    for array in slurm.arrays[:MOST_ARRAYS]:
        trials = array.bundles[-1][1] - array.bundles[0][0]
        after = f", when array {array.after + 1} has ended" if array.after >= 0 else ""
        bundles = f"{count(len(array.bundles), 'bundle')} with {count(trials, 'trial')} in all"
        yield f"sbatch: {bundles}; {array.at_once} at once, {clock(array.minutes * 60)} each{after}"
    if len(slurm.arrays) > MOST_ARRAYS:
        yield f"and {len(slurm.arrays) - MOST_ARRAYS} arrays more"
    if slurm.gpus:
        hours = "known once a trial has finished" if slurm.gpu_hours is None else f"about {slurm.gpu_hours:.1f}"
        yield f"GPU-hours: {hours}"
    yield from (f"    {line}".rstrip() for line in slurm.script.splitlines())
