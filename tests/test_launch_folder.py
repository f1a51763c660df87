from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnscan import launch_folder
from nnscan.launch_folder import TRIALS_A_ROW_GROUP, Launch
from nnscan.results.folder import ScanFolder
from nnscan.trial import Kind, Trial


def launch(name: str = "20260101-000000-abcdef", **changes: object) -> Launch:
    given = {"scan": "s", "metric": "val_loss", "code": "/code", "data_root": "/data", "provenance": {"host": "h"}}
    return Launch(name=name, **{**given, **changes})  # type: ignore[arg-type]


def trial(number: int) -> Trial:
    settings = {"model": {"name": "mlp", "width": number % 7}, "x": [1.5, True, "ä"], "empty": {}}
    return Trial(
        key=f"{number:032}",
        configuration=f"{number // 3:032}",
        settings=settings,
        families=("A",) if number % 2 else ("A", "B"),
        kind=Kind.RETRAINING if number % 5 == 0 else Kind.TRIAL,
        epochs=number % 4,
        fold=number % 3,
        replicate=number % 2,
        attempts=number % 3,
    )


COUNT = 2 * TRIALS_A_ROW_GROUP + 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ScanFolder:
    folder = ScanFolder(tmp_path_factory.mktemp("scan"))
    assert launch_folder.write(folder, launch(), map(trial, range(COUNT))) == COUNT
    return folder


EDGES = [0, 1, TRIALS_A_ROW_GROUP - 1, TRIALS_A_ROW_GROUP, TRIALS_A_ROW_GROUP + 1, 2 * TRIALS_A_ROW_GROUP, COUNT]


@pytest.mark.parametrize(
    ("start", "stop"), [(start, stop) for start in EDGES for stop in EDGES if start < stop <= start + 4000]
)
def test_any_range_of_the_list_comes_back(folder: ScanFolder, start: int, stop: int) -> None:
    found = launch_folder.read_trials(folder, launch().name, start, stop)
    assert found == [trial(number) for number in range(start, stop)]


@given(st.integers(0, COUNT - 1), st.integers(1, 20))
def test_a_bundle_across_row_groups_comes_back(folder: ScanFolder, start: int, count: int) -> None:
    stop = min(COUNT, start + count)
    found = launch_folder.read_trials(folder, launch().name, start, stop)
    assert [one.key for one in found] == [f"{number:032}" for number in range(start, stop)]


def test_a_launch_comes_back(folder: ScanFolder) -> None:
    assert launch_folder.read(folder, launch().name) == launch()


def test_launches_come_back_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    made = [launch("20260102-000000-aaaaaa", accepted=("a", "b"))]
    made.append(launch("20260101-000000-ffffff", cluster="ray", address="h:1", checkpoint_minutes=0.5))
    for one in made:
        launch_folder.write(folder, one, [])
    assert launch_folder.read_all(folder) == made[::-1]


def test_a_launch_whose_writing_was_cut_short_is_not_listed(tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    launch_folder.write(folder, launch(), [])
    (folder.launches / launch().name / "launch.json").unlink()
    assert launch_folder.read_all(folder) == []


def test_it_is_plain_json_for_people(folder: ScanFolder) -> None:
    content = json.loads((folder.launches / launch().name / "launch.json").read_text())
    assert (content["code"], content["provenance"]) == ("/code", {"host": "h"})


def test_names_of_launches_are_unique_and_sort_by_their_start() -> None:
    names = [launch_folder.new_name() for _ in range(100)]  # all within one second
    assert len(set(names)) == 100
    assert names == sorted(names)
    assert all("." not in name and "/" not in name for name in names)


@pytest.mark.parametrize("bundles", [3, 16, COUNT, 1])
def test_trials_are_dealt_out_so_that_each_bundle_has_its_share_of_every_stretch(bundles: int, tmp_path: Path) -> None:
    folder = ScanFolder(tmp_path)
    launch_folder.write(folder, launch(), map(trial, range(COUNT)))
    edges = [place * COUNT // bundles for place in range(bundles + 1)]
    ranges = list(pairwise(edges))
    launch_folder.deal(folder, launch().name, ranges)
    held = [launch_folder.read_trials(folder, launch().name, *one) for one in ranges[:20]]
    for number, trials in enumerate(held):
        assert [int(one.key) for one in trials[:-1]] == [number + bundles * round_ for round_ in range(len(trials) - 1)]
    assert sorted(launch_folder.read_keys(folder, launch().name).to_pylist()) == [f"{i:032}" for i in range(COUNT)]
