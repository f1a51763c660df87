"""Curves over epochs: the mean of each configuration, and the losses of a winner."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nnscan.results.scores import codes_of, floats
from nnscan.results.selection import Floats, Integers, carried_on


@dataclass(frozen=True, kw_only=True)
class MeanCurves:
    """A curve a configuration: the mean over its trials, each carried on from its last value where it stopped early."""

    metric: str
    configurations: tuple[str, ...]
    """Keys, of those with a completed trial."""
    values: Floats
    """(C, E): the index is the epoch; NaN before the first value, and where all trials of a configuration ended."""


def mean_curves(trials: pa.Table, epochs: pa.Table, metric: str) -> MeanCurves:
    """Return the mean curve of each configuration.

    Parameters
    ----------
    trials : table
        `key` and `configuration` of the trials that count, each once.
    epochs : table
        `trial`, `epoch` and `metric`; rows of other trials are ignored.
    """
    keys, matrix = curve_matrix(trials["key"], epochs, metric)
    configurations, names = codes_of(trials["configuration"].take(keys))
    count = len(names)
    carried = carried_on(list(matrix))
    sums, counts = np.zeros((count, matrix.shape[1])), np.zeros((count, matrix.shape[1]))
    np.add.at(sums, configurations, np.where(np.isnan(carried), 0.0, carried))
    np.add.at(counts, configurations, ~np.isnan(carried))
    means = sums / np.where(counts, counts, math.nan)
    means[np.arange(matrix.shape[1]) >= _lengths(matrix, configurations, count)[:, None]] = math.nan
    return MeanCurves(metric=metric, configurations=tuple(names.to_pylist()), values=means)


def curve_matrix(keys: pa.ChunkedArray | pa.Array, epochs: pa.Table, metric: str) -> tuple[Integers, Floats]:
    """Return which of `keys` have epochs, and their curves as rows: the index is the epoch, NaN without a value."""
    wanted = keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys
    trials, names = codes_of(epochs["trial"])
    places = pc.fill_null(pc.index_in(names, value_set=wanted), -1).to_numpy(zero_copy_only=False).astype(np.int64)
    found = np.sort(places[places >= 0])
    rows = np.full(len(wanted) + 1, -1)
    rows[found] = np.arange(len(found))
    row_of = rows[places[trials]] if len(names) else np.zeros(0, dtype=np.int64)
    numbers = epochs["epoch"].to_numpy().astype(np.int64)
    known = row_of >= 0
    matrix = np.full((len(found), numbers[known].max(initial=-1) + 1), math.nan)
    matrix[row_of[known], numbers[known]] = floats(epochs[metric])[known]
    return found, matrix


def _lengths(matrix: Floats, configurations: Integers, count: int) -> Integers:
    """Epochs up to the last value of any trial of each configuration."""
    known = np.where(np.isnan(matrix), 0, np.arange(1, matrix.shape[1] + 1)).max(axis=1, initial=0)
    longest = np.zeros(count, dtype=np.int64)
    np.maximum.at(longest, configurations, known)
    return longest


@dataclass(frozen=True, kw_only=True)
class Band:
    """A mean over trials, epoch by epoch, with its spread."""

    name: str
    """The metric."""
    mean: Floats
    """(E,)"""
    std: Floats
    """(E,): sample standard deviation; NaN for fewer than two trials."""


def band(curves: list[Floats], name: str) -> Band:
    """Return mean and spread of curves that stopped at different epochs, each carried on from its last value."""
    matrix = carried_on(curves)
    known = ~np.isnan(matrix)
    counts = known.sum(axis=0)
    mean = np.nansum(matrix, axis=0) / np.where(counts, counts, math.nan)
    squares = np.nansum((matrix - mean) ** 2, axis=0)
    return Band(name=name, mean=mean, std=np.sqrt(squares / np.where(counts > 1, counts - 1, math.nan)))


@dataclass(frozen=True, kw_only=True)
class WinnerCurves:
    """How the winner of a family learned: a value in training and in validation, with the epoch that is best."""

    family: str
    configuration: str
    bands: tuple[Band, ...]
    """`train_loss` and `val_loss`, or what there is."""
    best_epoch: int
    """Of the mean curve of `metric`."""
    metric: str
    best_value: float
    n: int
    """Trials."""
