"""Names and seeds that are the same on every machine: keys of configurations and trials, seeds of every draw.

Every rule here is final: another byte in a key would orphan all stored results.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from nnscan.trial import Kind, Settings

NUMERICS = 1
"""Raised when a release of nnscan changes the numbers that come out of the same settings; stands in every row."""


class Purpose(StrEnum):
    """What a seed is drawn for. The values are hashed: they never change."""

    DATA = "data draw"
    INITIALISATION = "initialisation"
    ORDER = "order"
    AUGMENTATION = "augmentation"
    DROPOUT = "dropout"
    FOLDS = "folds"
    TEST = "test"
    EXAMPLES = "examples"


@dataclass(frozen=True)
class Later:
    """An option that came when there were results already: settings do not hold it where it changes nothing."""

    path: tuple[str, ...]
    value: Any
    """What was so before there was the option."""

    beside: str
    """Another option of its table, which is there wherever this one can be."""


LATER = (
    Later(("training", "accumulation"), 1, beside="batch_size"),
    Later(("training", "warm_start"), "none", beside="batch_size"),
    Later(("model", "class_ranges"), [], beside="input_size"),
    Later(("model", "output_activation"), "none", beside="activation"),
    Later(("training", "keep_every"), 0, beside="batch_size"),
    Later(("training", "steps"), [], beside="batch_size"),
)
"""The options that a release added: keys of the results from before it stay what they are."""


def left_out(path: tuple[str, ...], value: Any) -> bool:
    """Return whether settings do not hold `value` at `path`, for it is that of an option that came later."""
    return any(path == later.path and value == later.value for later in LATER)


def completed(settings: Settings) -> Settings:
    """Return `settings` with the options that they do not hold because they came later.

    Examples
    --------
    >>> completed({"training": {"batch_size": 8}})["training"]["accumulation"]
    1
    >>> completed({"training": {"function": "a:b"}})
    {'training': {'function': 'a:b'}}
    """
    return {name: {**dict(_missing(name, table)), **table} for name, table in settings.items()}


def _missing(name: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for later in LATER:
        section, option = later.path
        if section == name and later.beside in table:
            yield option, later.value


def canonical_json(value: Any) -> str:
    """Return `value` as JSON text that is the same wherever it is made: keys sorted, no spaces, ASCII only.

    Floats are Python's shortest repr, and `-0.0` is `0.0`. Integers and floats stay apart: `1` is not `1.0`.

    Raises
    ------
    ValueError
        Where a float is NaN or infinite.
    TypeError
        Where something is no JSON value, or a key no string.

    Examples
    --------
    >>> canonical_json({"b": [1, -0.0], "a": 10e-1})
    '{"a":1.0,"b":[1,0.0]}'
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    """Return `value` without negative zeros; refuse what JSON would write as something else."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no JSON number: use a finite one.")
        return value + 0.0  # -0.0 + 0.0 is 0.0
    if isinstance(value, Mapping):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _text(key: Any) -> str:
    if not isinstance(key, str):  # json.dumps would turn 1 and True into text, and two keys into one
        raise TypeError(f"the key {key!r} is no string.")
    return key


def configuration_key(settings: Settings) -> str:
    """Return the key of a configuration, 32 hex digits: BLAKE2b over the canonical JSON of its settings."""
    return text_key(canonical_json(settings))


def text_key(text: str) -> str:
    """Return the key, 32 hex digits, of what the canonical JSON `text` says."""
    return blake2b(text.encode("ascii"), digest_size=16).hexdigest()


def trial_key(configuration: str, *, kind: Kind, epochs: int, fold: int, replicate: int) -> str:
    """Return the key of a trial, 32 hex digits.

    Parameters
    ----------
    configuration
        Key of the configuration.
    epochs
        Of a retraining, how long it trains; 0 of a trial, whose configuration says it.
    """
    if kind is Kind.TRIAL and epochs:
        raise ValueError(f"the key of a trial has epochs=0, found {epochs}: its configuration holds training.epochs.")
    # The canonical JSON of the five, written out: ten times faster than the general way, for 500,000 keys.
    return text_key(f'["{configuration}","{kind.value}",{epochs},{fold},{replicate}]')


@lru_cache(maxsize=1024)  # trials that are trained together ask for the same ones
def seed32(seed: int, purpose: Purpose, *, replicate: int = 0, fold: int = 0, epoch: int = 0, rank: int = 0) -> int:
    """Return a seed of 32 bits for one draw: BLAKE2b over (seed, replicate, fold, purpose, epoch).

    A rank above 0 joins them: what one process draws, rank 0 of several draws too.

    32 bits, because torch's CPU generator uses no more. Never from the configuration: all configurations meet the same
    folds, start and order (common random numbers). Folds depend on (seed, replicate) alone and the test set on the
    seed alone, whatever else is given.
    """
    if purpose in (Purpose.FOLDS, Purpose.TEST):
        fold = epoch = 0
    if purpose is Purpose.TEST:
        replicate = 0
    text = canonical_json([seed, replicate, fold, purpose.value, epoch, *([rank] if rank else [])])
    return int.from_bytes(blake2b(text.encode("ascii"), digest_size=4).digest(), "big")
