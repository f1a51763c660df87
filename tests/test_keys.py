from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from scan_by_hand import GRID, PLACE, key_of, start_of, write_bundle, write_scan

from nnscan import keys
from nnscan.errors import ScanError
from nnscan.identity import configuration_key
from nnscan.results.journal import Writer
from nnscan.trial import Kind

KEYS = pa.array(["aa11", "aa22", "ab33"])


@pytest.mark.parametrize(("text", "found"), [("aa", ["aa11", "aa22"]), ("ab", ["ab33"]), ("b", []), ("aa11", ["aa11"])])
def test_keys_are_found_by_how_they_begin(text: str, found: list[str]) -> None:
    assert keys.beginning(KEYS, text) == found


@pytest.mark.parametrize(("text", "near"), [("aa29", "aa22"), ("abab", "ab33"), ("ax", "aa11"), ("x", ""), ("", "")])
def test_the_nearest_shares_most_letters_at_the_start(text: str, near: str) -> None:
    assert keys.nearest(KEYS, text) == near


def test_known_are_those_planned_those_stored_and_those_in_training(tmp_path: Path) -> None:
    folder = write_scan(tmp_path / "s", GRID[:2])
    write_bundle(folder, "l-0", [(GRID[3], 0, 0.5)])
    writer = Writer(folder, "l-1", PLACE)
    retraining = {**start_of(GRID[0], 0), "trial": key_of(GRID[0], kind=Kind.RETRAINING, epochs=3)}
    writer.start(retraining)
    planned = {key_of(point, fold) for point in GRID[:2] for fold in range(3)}
    found = keys.known_keys(folder).to_pylist()
    assert len(found) == len(set(found))
    assert set(found) == planned | {key_of(GRID[3], 0), retraining["trial"]}


def test_a_trial_is_named_by_the_start_of_its_key(tmp_path: Path) -> None:
    folder = write_scan(tmp_path / "s")
    key = key_of(GRID[0], 0)
    assert keys.the_trial(folder, key[:6]) == key
    with pytest.raises(ScanError, match=f"--trial: found '{key[:6]}z'; no trial .* Did you mean {key}"):
        keys.the_trial(folder, f"{key[:6]}z")
    with pytest.raises(ScanError, match=r"18 trials begin so: .*, \.\.\.\. Give more of the key"):
        keys.the_trial(folder, "")


def test_the_key_of_a_configuration_tells_its_trials(tmp_path: Path) -> None:
    folder = write_scan(tmp_path / "s")
    trials = [f"{key_of(GRID[0], fold)[:16]} (fold {fold}, replicate 0)" for fold in range(3)]
    with pytest.raises(ScanError) as caught:
        keys.the_trial(folder, configuration_key(GRID[0])[:8])
    assert f"the key of a configuration. Name one of its trials: {', '.join(trials)}." in str(caught.value)
