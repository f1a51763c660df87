"""What trials cost, by what those took that have completed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from nnscan.plan import Plan
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.scores import floats, own_seconds
from nnscan.trial import Status


@dataclass(frozen=True)
class Stretch:
    """Trials of one family."""

    keys: pa.Array
    """In the order of the plan."""
    seconds: float
    """Of each."""


def seconds_of_work(plan: Plan, folder: ScanFolder, wanted: pa.Array) -> float | None:
    """Return what the trials `wanted` take one after another, in seconds; None where no trial has completed yet.

    A trial takes as long as those of its family did, else as all did.
    """
    stretches = longest_first(plan, folder, wanted)
    return sum(len(stretch.keys) * stretch.seconds for stretch in stretches) if stretches is not None else None


def longest_first(plan: Plan, folder: ScanFolder, wanted: pa.Array) -> list[Stretch] | None:
    """Return the trials `wanted` family by family, those that take longest first; None where none has completed yet.

    Families that take equally long stay in the order of the plan; a trial in two counts in the first.
    """
    took = _seconds_by_family(plan, folder)
    if took is None:
        return None
    first = pc.index_in(wanted, value_set=plan.table["key"].combine_chunks())
    family = plan.table["family"].take(first)
    stretches = [
        Stretch(wanted.filter(pc.equal(family, name).combine_chunks()), took.get(name, took[""]))
        for name in pc.unique(family).to_pylist()
    ]
    return sorted(stretches, key=lambda stretch: -stretch.seconds)


def _seconds_by_family(plan: Plan, folder: ScanFolder) -> Mapping[str, float] | None:
    """Return what a trial took on average, by its family, and by "" that of all; None where none has completed."""
    ended = store.read_trials(folder, ["trial", "status", "seconds", "fused"])
    ended = ended.filter(pc.equal(ended["status"], Status.COMPLETED.value))
    if not len(ended):
        return None
    own = pa.array(own_seconds(floats(ended["seconds"]), floats(ended["fused"])), from_pandas=True)  # NaN is null
    rows = pc.index_in(plan.table["key"], value_set=ended["trial"].combine_chunks())
    took = pa.table({"family": plan.table["family"], "seconds": own.take(rows)}).drop_null()
    means = took.group_by("family").aggregate([("seconds", "mean")])
    of_family = zip(means["family"].to_pylist(), means["seconds_mean"].to_pylist(), strict=True)
    return {"": pc.mean(own).as_py(), **dict(of_family)}
