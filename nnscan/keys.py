"""Finding trials by the first letters of their keys, and families by their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import pyarrow as pa
import pyarrow.compute as pc

from nnscan.errors import Problem, ScanError
from nnscan.plan import read_columns
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.results.wording import KEY_DIGITS

SHOWN = 5
"""Keys that are named where several begin alike."""

CONFIGURATIONS = "`nnscan summarize` shows configurations; named here, one tells its trials."


def known_keys(folder: ScanFolder) -> pa.Array:
    """Return the keys of all trials of a scan, each once: those of its plan, and what else was ever begun.

    Retrainings are among them, and points that the scan file no longer asks for.
    """
    planned = read_columns(folder, ("key",))["key"]
    stored = store.read_trials(folder, ("trial",))["trial"]
    running = pa.array([one.trial for one in store.running(folder)], pa.string())
    return pc.unique(pa.chunked_array([*planned.chunks, *stored.chunks, running], pa.string()))


def beginning(keys: pa.Array, text: str) -> list[str]:
    """Return those of `keys` that begin with `text`."""
    return list(keys.filter(pc.starts_with(keys, text)).to_pylist())


def nearest(keys: pa.Array, text: str) -> str:
    """Return the first of `keys` that has most letters at its start in common with `text`; "" where none has any."""
    for length in range(len(text), 0, -1):
        near = keys.filter(pc.starts_with(keys, text[:length]))
        if len(near):
            return str(near[0].as_py())
    return ""


def the_trial(folder: ScanFolder, text: str) -> str:
    """Return the key of the one trial that begins with `text`; ScanError where there is none, or several."""
    keys = known_keys(folder)
    found = beginning(keys, text)
    if len(found) != 1:
        raise ScanError(str(folder.path), [unclear(folder, keys, text)])
    return found[0]


def unclear(folder: ScanFolder, keys: pa.Array, text: str) -> Problem:
    """Return what is wrong with `text`, with which not exactly one of `keys` begins; the trials of a configuration."""
    found = beginning(keys, text)
    if found:
        shown = ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
        return Problem("--trial", f"found {text!r}; {len(found)} trials begin so: {shown}. Give more of the key.")
    trials = list(_trials_of(folder, text))
    if trials:
        shown = ", ".join(trials[:SHOWN]) + (", ..." if len(trials) > SHOWN else "")
        return Problem("--trial", f"found {text!r}, the key of a configuration. Name one of its trials: {shown}.")
    near = nearest(keys, text)
    hint = f" Did you mean {near}?" if near else ""
    return Problem("--trial", f"found {text!r}; no trial of the scan begins so.{hint} {CONFIGURATIONS}")


def _trials_of(folder: ScanFolder, text: str) -> Iterator[str]:
    """Yield the trials of the configurations that begin with `text`, by replicate and fold."""
    table = read_columns(folder, ("key", "configuration", "replicate", "fold"))
    rows = table.filter(pc.starts_with(table["configuration"], text))
    ordered = rows.sort_by([(name, "ascending") for name in ("configuration", "replicate", "fold")])
    for row in ordered.group_by(["key", "replicate", "fold"], use_threads=False).aggregate([]).to_pylist():
        yield f"{row['key'][:KEY_DIGITS]} (fold {row['fold']}, replicate {row['replicate']})"


def unknown_families(folder: ScanFolder, families: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with each of `families` that the scan does not have."""
    known = pc.unique(read_columns(folder, ("family",))["family"]).to_pylist()
    for family in families:
        if family not in known:
            near = get_close_matches(family, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            yield Problem("--family", f"found {family!r}.{hint} The scan has: {', '.join(known)}.")
