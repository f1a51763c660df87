"""Where the files of a scan lie, and how a small one is written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from nnscan.errors import StoreError


@dataclass(frozen=True)
class ScanFolder:
    """The folder `scans/<name>` of one scan; every path below it is named here and nowhere else."""

    path: Path

    @property
    def scan_file(self) -> Path:
        """What was asked, as resolved (TOML)."""
        return self.path / "scan.toml"

    @property
    def plan(self) -> Path:
        """The trials of the scan file (Parquet)."""
        return self.path / "plan.parquet"

    @property
    def launches(self) -> Path:
        """One folder a launch: its list of trials, what it was started with."""
        return self.path / "launches"

    @property
    def schema(self) -> Path:
        """Names and types of the tables' columns (JSON)."""
        return self.path / "schema.json"

    @property
    def trials(self) -> Path:
        """Parts of the table with one row a trial."""
        return self.path / "trials"

    @property
    def epochs(self) -> Path:
        """Parts of the table with one row a trial and epoch."""
        return self.path / "epochs"

    @property
    def steps(self) -> Path:
        """Parts of the table with one row a trial, step and name; only where asked."""
        return self.path / "steps"

    @property
    def journal(self) -> Path:
        """Rows of bundles that still run."""
        return self.path / "journal"

    @property
    def logs(self) -> Path:
        """One log a worker."""
        return self.path / "logs"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints of unfinished trials."""
        return self.path / "checkpoints"

    @property
    def models(self) -> Path:
        """One folder a family: its winner, retrained."""
        return self.path / "models"

    @property
    def kept(self) -> Path:
        """One model folder a trial that was asked to keep its best weights (`training.keep`), named by its key."""
        return self.path / "kept"

    @property
    def tensorboard(self) -> Path:
        """Event files for TensorBoard, one folder a trial; only where asked."""
        return self.path / "tensorboard"

    @property
    def wandb(self) -> Path:
        """Files of Weights & Biases, and what was sent to it; only where asked."""
        return self.path / "wandb"

    @property
    def lock(self) -> Path:
        """Held by a launch while it submits or runs; its text says who."""
        return self.path / "lock"

    @property
    def stop(self) -> Path:
        """Exists when workers shall start no further trial; its text says why."""
        return self.path / "stop"

    @property
    def cancelled(self) -> Path:
        """Families and trials that workers shall pass over until the next launch (JSON)."""
        return self.path / "cancelled.json"

    @property
    def queue(self) -> Path:
        """What the scheduler said last, for all who ask within ten seconds (JSON)."""
        return self.path / "queue.json"

    @property
    def cache(self) -> Path:
        """Decoded data, shared by all scans that lie side by side."""
        return self.path.parent / ".cache"

    @property
    def weights(self) -> Path:
        """Files of weights that trainings start from, named by their SHA-256; shared likewise."""
        return self.path.parent / ".weights"


def name_a_model(path: Path) -> str:
    """Return what to name instead of `path`, which is no model folder: those in it, in its models/, or beside it."""
    for place in (path / "models", path, path.parent):
        found = sorted(str(card.parent) for card in place.glob("*/model.json"))
        if found:
            return f"There are: {', '.join(found)}."
    return "Name a folder that `nnscan retrain-best` wrote, such as scans/digits/models/MLP."


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` so that a reader finds the old file or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a crash can leave an empty file under the final name
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def remedy(error: OSError) -> str:
    """Return what there is to do where the file system refused something."""
    if error.errno in _FULL:
        return "Make room on the disk (or raise the quota, or `ulimit -f`)"
    return "Check the disk and its rights, or put the scan elsewhere (--scan-dir)"


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the file system refuses while `path` is written into a StoreError that says what to do."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. What had finished is kept. {remedy(error)}, then launch"
            " again."
        ) from error
