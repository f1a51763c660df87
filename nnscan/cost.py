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
    ended = store.read_trials(folder, ["trial", "status", "seconds"])
    ended = ended.filter(pc.equal(ended["status"], Status.COMPLETED.value))
    if not len(ended):
        return None
    rows = pc.index_in(plan.table["key"], value_set=ended["trial"].combine_chunks())
    took = pa.table({"family": plan.table["family"], "seconds": ended["seconds"].take(rows)}).drop_null()
    mean = pc.mean(ended["seconds"]).as_py()
    of_family = {
        row["family"]: row["seconds_mean"]
        for row in took.group_by("family").aggregate([("seconds", "mean")]).to_pylist()
    }
    first = pc.index_in(wanted, value_set=plan.table["key"].combine_chunks())  # a trial in two families counts once
    left = plan.table["family"].take(first).value_counts().to_pylist()
    return float(sum(entry["counts"] * of_family.get(entry["values"], mean) for entry in left))
