"""What one launch asked for: its list of trials, and what its workers need to know."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from nnscan.errors import StoreError
from nnscan.results.folder import ScanFolder, told, write_atomically
from nnscan.trial import Kind, Trial

POLL_SECONDS = 0.05

TRIALS_A_ROW_GROUP = 2048  # a worker reads the row groups of its bundle only

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("configuration", pa.string()),
        ("settings", pa.string()),
        ("families", pa.list_(pa.string())),
        ("kind", pa.string()),
        ("epochs", pa.int32()),
        ("fold", pa.int32()),
        ("replicate", pa.int32()),
        ("attempts", pa.int32()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Everything that the workers of a launch share."""

    name: str
    """Unique in the scan folder, without a dot."""
    scan: str
    """Name of the scan."""
    metric: str
    """Names the best epoch."""
    code: str
    """Folder that users' modules are imported from: the working folder, or its copy that jobs of Slurm take."""
    import_path: tuple[str, ...] = ()
    """Folders that jobs of Slurm import from before all others; `code` is the first."""
    data_root: str
    """Folder below which data are looked for."""
    processes: int = 1
    """Ranks of a trial."""
    nodes: int = 1
    """Nodes that a trial's ranks are spread over."""
    cpus_per_trial: int = 1
    """Of all its processes together."""
    gpus_per_trial: float = 0.0
    checkpoint_minutes: float = 5.0
    """Minutes between checkpoints within an epoch; 0 for none."""
    checkpoint_epochs: int = 0
    """Epochs between checkpoints; 0 for none."""
    deterministic: bool = False
    """Whether torch takes only operations that give the same bits every time."""
    fuse: str = "off"
    """How many trials of one shape a worker trains together: "auto", "off", or so many."""
    trains_networks: bool = True
    """False where users' functions train all trials: they may not need torch."""
    cluster: str = "local"
    """Where it was launched, with `address` of a running cluster."""
    address: str = ""
    profile: str = ""
    """Name or file of the Slurm profile that was asked for."""
    accepted: tuple[str, ...] = ()
    """Fingerprints of older results that the user accepted beside the present ones."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Host, user, command, versions, commit: for people."""

    @property
    def threads(self) -> int:
        """Threads of each process."""
        return max(1, self.cpus_per_trial // self.processes)


def new_name() -> str:
    """Return a name for a launch that sorts by its start, to the microsecond, and is unique."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(3)}"


def write(folder: ScanFolder, launch: Launch, trials: Iterable[Trial], changes: str = "") -> int:
    """Write a launch, its list of trials and what the code differs by from its commit; return how many trials.

    The launch comes last: who sees it sees all.
    """
    home = folder.launches / launch.name
    with told(home):
        home.mkdir(parents=True, exist_ok=True)  # the copy of the code may lie there
        count = _write_trials(home / "trials.parquet", trials)
        if changes:
            write_atomically(home / "changes.diff", changes.encode())
        write_atomically(home / "launch.json", json.dumps(asdict(launch), indent=1).encode())
    return count


def _write_trials(path: Path, trials: Iterable[Trial]) -> int:
    count = 0
    rows = iter(trials)
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        while chunk := list(islice(rows, TRIALS_A_ROW_GROUP)):
            writer.write_table(pa.Table.from_pylist([_row(trial) for trial in chunk], schema=_SCHEMA))
            count += len(chunk)
    return count


def deal(folder: ScanFolder, name: str, bundles: Sequence[tuple[int, int]]) -> None:
    """Put a launch's list of trials in another order: dealt out to `bundles`, ranges of the list, like cards.

    Trials that stand together in a scan file take about as long as each other, and those of another family maybe ten
    times as long: bundles of neighbours would not end together.
    """
    path = folder.launches / name / "trials.parquet"
    table = pq.read_table(path)
    with told(path), pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        writer.write_table(table.take(pa.array(dealt(bundles))), row_group_size=TRIALS_A_ROW_GROUP)


def dealt(bundles: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return which trial comes to each place of a list that `bundles`, ranges one behind the other, cut.

    Examples
    --------
    >>> dealt([(0, 2), (2, 5)])
    array([0, 2, 1, 3, 4])
    """
    holder = np.repeat(np.arange(len(bundles)), [stop - start for start, stop in bundles])
    place_in_bundle = np.concatenate([np.arange(stop - start) for start, stop in bundles])
    trials = np.empty(len(holder), dtype=np.int64)
    trials[np.lexsort((holder, place_in_bundle))] = np.arange(len(holder))
    return trials


def read(folder: ScanFolder, name: str) -> Launch:
    """Read back what a launch asked for; what an other version of nnscan wrote beyond that is passed over.

    Raises
    ------
    StoreError
        Where it does not read.
    """
    path = folder.launches / name / "launch.json"
    try:
        content = json.loads(path.read_bytes())
        known = {field.name: content[field.name] for field in fields(Launch) if field.name in content}
        tuples = {name: tuple(known.get(name, ())) for name in ("accepted", "import_path")}
        return Launch(**{**known, **tuples})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"cannot read {path}: {error}. No result is in it: remove it, then launch again.") from error


def wait_for(folder: ScanFolder, name: str) -> None:
    """Return when the launch is written: a worker may be there before it is."""
    while not (folder.launches / name / "launch.json").exists():
        time.sleep(POLL_SECONDS)


def read_all(folder: ScanFolder) -> list[Launch]:
    """Read every launch of a scan folder, oldest first."""
    return [read(folder, path.parent.name) for path in sorted(folder.launches.glob("*/launch.json"))]


def read_keys(folder: ScanFolder, name: str) -> pa.Array:
    """Read the keys of a launch's list of trials, in its order."""
    table = pq.read_table(folder.launches / name / "trials.parquet", columns=["key"])
    return table["key"].combine_chunks()


def read_trials(folder: ScanFolder, name: str, start: int, stop: int) -> list[Trial]:
    """Read the trials `start` to `stop` of a launch's list."""
    with pq.ParquetFile(folder.launches / name / "trials.parquet") as file:
        first, last = start // TRIALS_A_ROW_GROUP, (stop - 1) // TRIALS_A_ROW_GROUP
        table = file.read_row_groups(list(range(first, last + 1)))
    wanted = table.slice(start - first * TRIALS_A_ROW_GROUP, stop - start)
    return list(_trials(wanted))


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "key": trial.key,
        "configuration": trial.configuration,
        "settings": json.dumps(trial.settings),
        "families": list(trial.families),
        "kind": trial.kind.value,
        "epochs": trial.epochs,
        "fold": trial.fold,
        "replicate": trial.replicate,
        "attempts": trial.attempts,
    }


def _trials(table: pa.Table) -> Iterator[Trial]:
    for row in table.to_pylist():
        settings, families = json.loads(row.pop("settings")), tuple(row.pop("families"))
        yield Trial(**{**row, "kind": Kind(row["kind"])}, settings=settings, families=families)
