"""What trials cost, by what those took that have completed."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from nnscan.plan import Plan
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.trial import Status


def seconds_of_work(plan: Plan, folder: ScanFolder, wanted: pa.Array) -> float | None:
    """Return what the trials `wanted` take one after another, in seconds; None where no trial has completed yet.

    A trial takes as long as those of its family did, else as all did.
    """
    ended = store.read_trials(folder, ["trial", "status", "seconds", "fused"])
    ended = ended.filter(pc.equal(ended["status"], Status.COMPLETED.value))
    if not len(ended):
        return None
    own = pc.divide(ended["seconds"], pc.cast(ended["fused"], pa.float64()))  # trials trained together share the time
    rows = pc.index_in(plan.table["key"], value_set=ended["trial"].combine_chunks())
    took = pa.table({"family": plan.table["family"], "seconds": own.take(rows)}).drop_null()
    mean = pc.mean(own).as_py()
    of_family = {
        row["family"]: row["seconds_mean"]
        for row in took.group_by("family").aggregate([("seconds", "mean")]).to_pylist()
    }
    first = pc.index_in(wanted, value_set=plan.table["key"].combine_chunks())  # a trial in two families counts once
    left = plan.table["family"].take(first).value_counts().to_pylist()
    return float(sum(entry["counts"] * of_family.get(entry["values"], mean) for entry in left))
