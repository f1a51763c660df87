"""A bundle belongs to the life of its job that claimed it last."""

from __future__ import annotations

import json

import pytest

from nnscan.bundles import Bundle
from nnscan.launchers.slurm.claim import Claim
from nnscan.launchers.slurm.own_job import OwnJob
from nnscan.results.folder import ScanFolder


@pytest.fixture
def claim(tmp_path):
    (tmp_path / "launches" / "l").mkdir(parents=True)
    return lambda number, restart=0: Claim(ScanFolder(tmp_path), Bundle("l", 4, 8), OwnJob(number, restart))


def test_the_last_one_that_claims_a_bundle_holds_it(claim):
    first, second = claim("7"), claim("7", 1)
    assert first.make()
    assert first.holds()
    assert second.make()
    assert (first.holds(), second.holds()) == (False, True)


def test_a_life_that_is_older_takes_nothing_over(claim):
    newer, older = claim("7", 2), claim("7", 1)
    assert newer.make()
    assert not older.make()
    assert newer.holds()


def test_another_job_takes_it_over_whatever_its_life(claim):
    assert claim("7", 2).make()
    assert claim("8").make()


def test_stops_without_a_step_further_are_counted_over_lives(claim):
    first, second = claim("7"), claim("7", 1)
    first.make()
    assert [first.stopped("a", 10), first.stopped("a", 10)] == [0, 1]
    second.make()
    assert second.stopped("a", 10) == 2


def test_a_step_further_begins_the_count_anew(claim):
    one = claim("7")
    one.make()
    assert [one.stopped("a", steps) for steps in (-1, -1, 5, 5, 6)] == [1, 2, 0, 1, 0]


def test_idle_lives_are_counted_in_a_row(claim):
    one = claim("7")
    one.make()
    assert [one.idle(True), one.idle(True), one.idle(False), one.idle(True)] == [1, 2, 0, 1]
    other = claim("7", 1)
    other.make()
    assert other.idle(True) == 2


def test_a_bundle_that_ended_is_held_by_nobody(claim, tmp_path):
    one = claim("7")
    one.make()
    one.end("no room")
    assert not one.holds()
    folder = tmp_path / "launches" / "l" / "bundles"
    assert [path.name for path in folder.iterdir()] == ["4.json"]
    assert json.loads((folder / "4.json").read_text()) == {"error": "no room"}


def test_a_damaged_state_is_that_of_nobody(claim, tmp_path):
    one = claim("7")
    one.make()
    (tmp_path / "launches" / "l" / "bundles" / "4.state").write_bytes(b"\0\0\0")
    assert not one.holds()
    assert one.make()
