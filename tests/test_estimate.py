from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from scans import DIGITS, TESTS, function_scan, run

from nnscan import estimate
from nnscan.estimate import Estimate, dry_run
from nnscan.launch_options import LaunchOptions
from nnscan.plan import expand
from nnscan.results import store
from nnscan.results.folder import ScanFolder
from nnscan.scan import Scan, read


@pytest.fixture(autouse=True)
def in_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(TESTS)
    monkeypatch.setattr(estimate, "usable_cpus", lambda: 4)


def told(scan: Scan, path: Path, **options: Any) -> Estimate:
    return dry_run(scan, ScanFolder(path / "scans" / scan.name), LaunchOptions(**options))


def test_nothing_is_made(tmp_path: Path) -> None:
    told(read(DIGITS), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_families_axes_and_counts(tmp_path: Path) -> None:
    of = told(read(DIGITS), tmp_path)
    assert [(family.name, dict(family.axes), family.configurations, family.trials) for family in of.families] == [
        ("Narrow", {"model.width": [4, 8]}, 2, 4),
        ("Wide", {"model.width": [8, 16]}, 2, 4),
    ]
    assert (of.configurations, of.trials, of.to_run, of.done, of.failed) == (3, 6, 6, 0, 0)  # width 8 is in both
    assert of.seconds is None
    assert of.data_found


@pytest.mark.parametrize(
    ("options", "workers", "bundles"),
    [
        ({}, 4, 6),
        ({"workers": 1}, 1, 1),
        ({"cluster": "inline"}, 1, 1),
        ({"cluster": "inline", "workers": 2}, 2, 6),
        ({"workers": 1, "limit": 2}, 1, 1),
    ],
)
def test_workers_and_bundles(tmp_path: Path, options: dict[str, Any], workers: int, bundles: int) -> None:
    of = told(read(DIGITS), tmp_path, **options)
    assert (of.workers, of.bundles) == (workers, bundles)


def test_trials_of_several_cpus_run_fewer_at_once(tmp_path: Path) -> None:
    scan = read(DIGITS.replace("[[grid]]", "[resources]\ncpus_per_trial = 2\n[[grid]]", 1))
    assert told(scan, tmp_path).workers == 2


def test_what_is_done_and_failed_is_not_to_be_run(tmp_path: Path) -> None:
    scan = function_scan("throw", [0.5, 2.0, 1.0])
    run(scan, tmp_path, limit=4)
    of = told(scan, tmp_path)
    assert (of.trials, of.done, of.failed, of.to_run) == (6, 2, 2, 2)
    assert told(scan, tmp_path, retry_failed=True).to_run == 4
    assert told(scan, tmp_path, limit=1).to_run == 1
    some = expand(scan).keys()[0].as_py()
    assert told(scan, tmp_path, trial=some).to_run == 1


def test_the_time_is_what_trials_of_each_family_took_over_the_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_families = function_scan("learn", [0.5, 1.0]).toml() + (
        '[[grid]]\nfamily = "Other"\ntraining.function = "functions:learn"\ntraining.arguments.rate = [1.0, 2.0, 4.0]\n'
    )
    scan = read(two_families)
    outcome = run(scan, tmp_path, limit=2)  # rate 0.5, both folds
    mean = sum(store.read_trials(outcome.folder, ["seconds"])["seconds"].to_pylist()) / 2
    of = told(scan, tmp_path, workers=3)
    assert of.to_run == 6  # 1.0 (in both families), 2.0 and 4.0, two folds each
    assert of.seconds == pytest.approx(6 * mean / 3)


@pytest.mark.parametrize("fused", [None, 4], ids=["older than the column", "four at a time"])
def test_trials_that_were_trained_together_shared_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fused: int | None
) -> None:
    scan = function_scan("learn", [0.5, 1.0])
    outcome = run(scan, tmp_path, limit=2)
    took = sum(store.read_trials(outcome.folder, ["seconds"])["seconds"].to_pylist())
    read_trials = store.read_trials

    def so_fused(folder: ScanFolder, columns: list[str]) -> pa.Table:
        table = read_trials(folder, columns)
        kept = [name for name in columns if name != "fused"]
        changed = {name: pa.array([fused] * len(table), pa.int32()) for name in columns if name not in kept}
        return pa.table({**{name: table[name] for name in kept}, **changed})

    monkeypatch.setattr(store, "read_trials", so_fused)
    assert told(scan, tmp_path, workers=1).seconds == pytest.approx(took / (fused or 1))


def test_missing_data_are_told_with_what_to_do(tmp_path: Path) -> None:
    scan = read(DIGITS.replace('name = "digits"\n[val', 'name = "image_folder"\nroot = "nowhere"\nsize = 8\n[val'))
    of = told(scan, tmp_path)
    assert not of.data_found
    assert "nowhere" in of.data_message
    assert of.to_run == 6
