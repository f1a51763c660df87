"""The grid is desired state: what of it the store lacks, and whether the store was made with the same data and code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.errors import DataError, Problem, ScanError
from nnscan.failure import TRIES
from nnscan.trial import Failure, Status

COLUMNS = ("trial", "status", "failure", "attempt")
"""What `still_to_do` reads of the table of trials."""

FINGERPRINTS = ("data_fingerprint", "code_fingerprint", "numerics")

DATA_NAME = "data.name"
"""Hyperparameter that names the data; a training function that loads its own has none."""


@dataclass(frozen=True)
class ToDo:
    """The keys of a plan, each once, and which of them are to be run."""

    keys: pa.Array
    """In the order of the plan."""
    wanted: npt.NDArray[np.bool_]
    done: int
    """Trials that completed or diverged."""
    failed: int
    """Trials that failed and are left so."""
    attempts: Mapping[str, int]
    """Attempts that counted against the limit, of wanted trials whose worker died in them."""
    elsewhere: int = 0
    """Trials without a result that bundles of earlier launches are to train: queued or running, and left alone."""

    def first(self, limit: int) -> pa.Array:
        """Return the keys that are wanted, at most `limit` of them; 0: all."""
        wanted = self.keys.filter(pa.array(self.wanted))
        return wanted.slice(0, limit) if limit else wanted


TRIALS = "`nnscan watch --trial` with a configuration that `nnscan summarize` shows tells its trials."


def one_trial(keys: pa.Array, prefix: str) -> ToDo:
    """Return the one of `keys` that begins with `prefix` as wanted, whatever became of it; else raise ScanError."""
    wanted = np.asarray(pc.starts_with(keys, prefix))
    if (count := int(wanted.sum())) != 1:
        found = f"{count} trials of the scan begin so" if count else "no trial of the scan begins so"
        raise ScanError("options", [Problem("--trial", f"found {prefix!r}; {found}. {TRIALS}")])
    return ToDo(keys, wanted, 0, 0, {})


def still_to_do(keys: pa.Array, trials: pa.Table, *, retry_failed: bool, elsewhere: pa.Array | None = None) -> ToDo:
    """Return which of `keys` have no result, or one that is to be had again.

    Parameters
    ----------
    keys : pa.Array
        Keys of trials, each once.
    trials : pa.Table
        One row a trial, with `COLUMNS`.
    retry_failed : bool
        Whether failed trials are wanted, their attempts forgotten.
    elsewhere : pa.Array, optional
        Keys of trials that queued or running bundles hold: not wanted.
    """
    rows = pc.index_in(keys, value_set=trials["trial"].combine_chunks())
    status, failure, attempt = (trials[name].take(rows) for name in COLUMNS[1:])
    failed = _equal(status, Status.FAILED)
    lost = failed & _equal(failure, Failure.LOST) & (attempt.fill_null(0).to_numpy() < TRIES)
    wanted = np.asarray(rows.is_null()) | lost | (failed & retry_failed)
    held = wanted & _among(keys, elsewhere)
    wanted &= ~held
    tried = lost & wanted & (not retry_failed)
    attempts = dict(zip(keys.filter(tried).to_pylist(), attempt.filter(tried).to_pylist(), strict=True))
    left = ~wanted & ~held
    return ToDo(keys, wanted, int((~failed & left).sum()), int((failed & left).sum()), attempts, int(held.sum()))


def _among(keys: pa.Array, others: pa.Array | None) -> npt.NDArray[np.bool_]:
    if others is None:
        return np.zeros(len(keys), dtype=bool)
    return np.asarray(pc.is_in(keys, value_set=others))


def _equal(column: pa.ChunkedArray, value: str) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.equal(column, value).fill_null(False))


def refuse_changed(trials: pa.Table, present: Mapping[str, Iterable[str]], accepted: Iterable[str]) -> None:
    """Raise DataError where results were made with other data, code or numerics than `present`.

    Parameters
    ----------
    trials : pa.Table
        Trials of the plan that ended, with the columns `FINGERPRINTS`, and `DATA_NAME` where there is one.
    present : mapping
        The fingerprints of now, by column.
    accepted : iterable of str
        Older ones that the user accepted.
    """
    known = set(accepted)
    for column, now in present.items():
        stored = {str(value) for value in _stored(trials, column) if value not in (None, "")}
        if strange := sorted(stored - set(now) - known):
            raise DataError(
                f"{column.replace('_', ' ')}: results of this scan were made with {', '.join(strange)};"
                f" now it is {', '.join(sorted(now)) or 'none'}. Start anew: --scan-dir FOLDER, or another `name` in"
                " the scan file; or, where the change moves no result, go on with --accept-changed."
            )


def _stored(trials: pa.Table, column: str) -> list[str | int | None]:
    """Return the different values of a column of fingerprints.

    Not those of data that a user's function (`package.module:function`) returned: what it returns now is known when it
    is called, in the trials; that its source is the same is told by the code's fingerprint.
    """
    if column == "data_fingerprint" and DATA_NAME in trials.column_names:
        trials = trials.filter(pc.invert(pc.match_substring(trials[DATA_NAME], ":")))
    return list(pc.unique(trials[column]).to_pylist())
