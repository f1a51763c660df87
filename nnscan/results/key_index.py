"""Looks keys up among a million others: in a fraction of the time of Arrow's hash table, and little memory."""

from __future__ import annotations

from functools import cached_property, reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_KEY_BYTES = 32

_ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)
"""Odd factors of full length (those of xxHash): multiplied modulo 2^64, the words of a key do not cancel each other."""

_BLOCK = 1 << 15
"""Keys compared at a time: 1 MB, which stays in the cache."""

Words = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]


class KeyIndex:
    """Keys, each of which stands once, in the order of 64 bits of a hash; what is found is compared whole."""

    def __init__(self, keys: pa.StringArray) -> None:
        self._keys = keys
        self._words = _words(keys)

    @cached_property
    def _sorted(self) -> tuple[Words, Places]:
        """Return the hashes of the keys in their order, and the place of each."""
        assert self._words is not None
        hashes = _hashes(self._words)
        order = np.argsort(hashes)
        return hashes[order], order

    def places(self, wanted: pa.StringArray) -> Places:
        """Return for each of `wanted` its place in the keys; -1 where it does not stand there."""
        if not len(wanted):
            return np.zeros(0, dtype=np.int64)
        if wanted.equals(self._keys):  # two columns of one table: a hundredth of the time
            return np.arange(len(wanted))
        words = _words(wanted)
        if words is None or self._words is None:
            return self._looked_up(wanted)
        nearest, met = self._nearest(_hashes(words))
        if not _same(words, self._words, nearest)[met].all():  # two keys of one hash, once in 10^7 scans of a million
            return self._looked_up(wanted)
        return np.where(met, nearest, -1)

    def _nearest(self, wanted: Words) -> tuple[Places, npt.NDArray[np.bool_]]:
        """Return for each of these hashes the place of the key that comes next, and whether its hash is the same."""
        hashes, places = self._sorted
        order = np.argsort(wanted)  # each is found near the one before it
        near = np.minimum(np.searchsorted(hashes, wanted[order]), len(hashes) - 1)
        nearest, met = np.empty(len(wanted), dtype=np.int64), np.empty(len(wanted), dtype=bool)
        nearest[order], met[order] = places[near], hashes[near] == wanted[order]
        return nearest, met

    def _looked_up(self, wanted: pa.StringArray) -> Places:
        found: Places = pc.index_in(wanted, value_set=self._keys).fill_null(-1).to_numpy().astype(np.int64)
        return found


def _words(keys: pa.StringArray) -> Words | None:
    """View keys of 32 bytes each as four numbers each, of shape (N, 4); None where one has another length."""
    offsets = np.frombuffer(keys.buffers()[1], dtype=np.int32)[keys.offset : keys.offset + len(keys) + 1]
    if keys.null_count or not len(keys) or (np.diff(offsets) != _KEY_BYTES).any():
        return None
    words = np.frombuffer(keys.buffers()[2], dtype=np.uint64, count=4 * len(keys), offset=offsets[0])
    return words.reshape(-1, 4)


def _hashes(words: Words) -> Words:
    """Return a number a key, of half of it: 64 bits of a key that is a digest itself."""
    return reduce(np.bitwise_xor, (words[:, part] * factor for part, factor in enumerate(_ODD)))


def _same(wanted: Words, keys: Words, places: Places) -> npt.NDArray[np.bool_]:
    """Whether each key of `wanted` is the one in its place of `keys`; a block at a time, to bound the memory."""
    same = np.empty(len(wanted), dtype=bool)
    for first in range(0, len(wanted), _BLOCK):
        block = slice(first, first + _BLOCK)
        equal = wanted[block] == np.take(keys, places[block], axis=0)  # indexing and `all` take six times as long
        same[block] = equal[:, 0] & equal[:, 1] & equal[:, 2] & equal[:, 3]
    return same
