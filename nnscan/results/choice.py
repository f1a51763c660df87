"""Which attempt's rows stand for a trial, where several writers ended one (design rule 6).

Completed or diverged before failed; then the earliest end, of failed ones the latest; then the writer's name. The order
is total, so leaving out a loser early never changes the winner, and no clock has to be right for rows to be single.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nnscan.results.key_index import KeyIndex
from nnscan.results.schema import TRIALS
from nnscan.trial import Status

DECIDING = pa.schema({name: TRIALS[name] for name in ("trial", "status", "ended", "writer")})
"""The columns of trials/ that the choice looks at."""

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max


def standing(trials: pa.Table) -> Mask | None:
    """Return which rows of `trials` stand, one a trial: a mask of its rows; None where no trial has two."""
    codes = codes_of(trials["trial"])
    counts = np.bincount(codes)
    if len(codes) == 0 or counts.max() == 1:
        return None
    contested = np.flatnonzero(counts[codes] > 1)
    mask = np.ones(len(codes), dtype=bool)
    mask[contested] = False
    mask[contested[_firsts(codes[contested], trials.take(contested))]] = True
    return mask


def _firsts(codes: Numbers, trials: pa.Table) -> Numbers:
    """Return the row that stands of each trial; `codes` numbers the trials."""
    failed = pc.equal(trials["status"], Status.FAILED.value).fill_null(True).to_numpy()
    ended = trials["ended"].cast(pa.int64())
    time = np.where(failed, -ended.fill_null(-_NEVER).to_numpy(), ended.fill_null(_NEVER).to_numpy())
    order = np.lexsort((_ranks(trials["writer"]), time, failed, codes))
    first = np.append(True, np.diff(codes[order]) != 0)
    stand: Numbers = order[first]
    return stand


def codes_of(column: pa.ChunkedArray) -> Numbers:
    """Return a number a value: equal ones have equal numbers, from 0 on without gaps."""
    codes: Numbers = column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    return codes


def _ranks(column: pa.ChunkedArray) -> Numbers:
    encoded = column.combine_chunks().dictionary_encode()
    names = np.array(encoded.dictionary.fill_null("").to_pylist(), dtype=object)
    ranks: Numbers = np.argsort(np.argsort(names))[encoded.indices.fill_null(0).to_numpy()]
    return ranks


OF_ATTEMPT = pa.schema({name: TRIALS[name] for name in ("trial", "writer")})
"""The columns of every table that say whose row it is."""

ENCODED = pa.schema({name: pa.dictionary(pa.int32(), pa.string()) for name in OF_ATTEMPT.names})
"""The same as dictionaries, which is how they are stored: a key stands in many rows, and is looked up once."""


class Chosen:
    """The attempts that stand, one a trial: picks their rows out of parts of epochs/ or steps/, each attempt once."""

    def __init__(self, standing_attempts: pa.Table) -> None:
        self.keys: pa.StringArray = standing_attempts["trial"].combine_chunks()
        self._trials = KeyIndex(self.keys)
        writers = standing_attempts["writer"].combine_chunks().dictionary_encode()
        self._writer_code = {writer: code for code, writer in enumerate(writers.dictionary.to_pylist())}
        self._writer_of = np.append(writers.indices.to_numpy(), -1)  # the last one is that of position -1, no trial
        self._seen = np.zeros(len(standing_attempts) + 1, dtype=bool)
        self._seen[-1] = True

    def pick(self, part: Iterable[pa.Table]) -> Iterator[tuple[pa.Table, Mask]]:
        """Yield each table of a part with a mask of its rows that stand.

        An attempt's rows are all taken from the first part that has it: while one is compacted or sealed two may.
        """
        here = np.zeros_like(self._seen)
        for table in part:
            positions = self.positions(table)
            here[positions] = True
            yield table, ~self._seen[positions]
        self._seen |= here

    def _writer_codes(self, writers: pa.StringArray) -> Numbers:
        return np.array([self._writer_code.get(writer, -1) for writer in writers.to_pylist()], dtype=np.int64)

    def positions(self, rows: pa.Table) -> Numbers:
        """Return the place in `keys` of the trial of each row, -1 of an attempt that does not stand.

        The writer is a dictionary, and the trial too where many rows have the same.
        """
        positions = _looked_up(rows["trial"], self._trials.places)
        writers = _looked_up(rows["writer"], self._writer_codes)
        return np.where((positions >= 0) & (writers == self._writer_of[positions]), positions, -1)


def _looked_up(column: pa.ChunkedArray, find: Callable[[pa.StringArray], Numbers]) -> Numbers:
    """Return what `find` gives for each value of a column; of a dictionary it is asked once for each."""
    array = column.combine_chunks()
    if not pa.types.is_dictionary(array.type):
        return find(array)
    numbers_of: Numbers = np.append(find(array.dictionary), -1)[array.indices.fill_null(-1).to_numpy()]
    return numbers_of
