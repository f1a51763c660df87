"""The crew without processes: workers that are pipes, and whose deaths are told by the test."""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nnscan.bundles import Bundle, Bundles, Dealer
from nnscan.launchers.forked.crew import STARTS_IN_VAIN, Crew, Lines, Worker, death
from nnscan.launchers.forked.worker import Order, answer

KILLED = int(signal.SIGKILL)
"""A wait status: the number of the signal stands in its lowest bits."""


@dataclass
class Stage:
    """A crew, and the other ends of its workers' pipes."""

    folder: Path
    bundles: Bundles
    events: list[dict[str, Any]] = field(default_factory=list)
    hired: list[Worker] = field(default_factory=list)
    ends: dict[int, tuple[int, int]] = field(default_factory=dict)
    closed: list[set[int]] = field(default_factory=list)
    """What each worker was told to close."""

    def __post_init__(self) -> None:
        self.crew = Crew(Dealer(self.bundles, clock=lambda: 0.0), self.folder, self.hire, self.events.append)
        self.crew.start()

    def hire(self, place: int, others: Collection[int]) -> Worker:
        orders, answers = os.pipe(), os.pipe()
        worker = Worker(1000 + len(self.hired), place, orders[1], Lines(answers[0]))
        self.hired.append(worker)
        self.ends[worker.pid] = orders[0], answers[1]
        self.closed.append(set(others))
        return worker

    def order(self, worker: Worker) -> Order:
        (line,) = os.read(self.ends[worker.pid][0], 1 << 16).splitlines()
        return Order.of(line.decode())

    def answer(self, worker: Worker, error: str = "") -> None:
        os.write(self.ends[worker.pid][1], answer(error))
        self.crew.answered(worker)

    def begin(self, bundle: Bundle) -> None:
        """Let the bundle have a journal."""
        (self.folder / "journal").mkdir(exist_ok=True)
        (self.folder / "journal" / f"{bundle.name}.w.jsonl").touch()

    def close(self) -> None:
        for worker in self.crew.workers.values():
            for descriptor in worker.descriptors():
                os.close(descriptor)
        for pair in self.ends.values():
            for descriptor in pair:
                os.close(descriptor)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path, Bundles("L", 13, 2))
    yield stage
    stage.close()


def test_workers_are_given_every_bundle_once_in_order_and_are_then_dismissed(stage: Stage) -> None:
    given = []
    while busy := stage.crew.busy():
        worker = busy[len(given) % len(busy)]
        order = stage.order(worker)
        given.append(order.bundle)
        stage.answer(worker)
    assert sorted(given, key=lambda bundle: bundle.start) == list(stage.bundles)
    assert [Bundle(**event["bundle"]) for event in stage.events] == given
    assert {event["error"] for event in stage.events} == {""}
    assert len(stage.hired) == 2
    assert all(os.read(stage.ends[worker.pid][0], 1) == b"" for worker in stage.hired), "they read that no more comes"


def test_no_more_workers_are_hired_than_there_are_bundles(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Bundles("L", 3, 16))
    assert [worker.place for worker in stage.hired] == [0, 1, 2]
    stage.close()


def test_what_a_worker_gives_up_is_told(stage: Stage) -> None:
    first = stage.hired[0]
    bundle = first.bundle
    assert bundle is not None
    stage.answer(first, "the disk is full")
    assert stage.events == [{"event": "bundle", "bundle": bundle.plain(), "error": "the disk is full"}]


def test_the_bundle_of_a_worker_that_dies_goes_to_another_in_its_place(stage: Stage) -> None:
    first, second = stage.hired
    bundle = stage.order(first).bundle
    stage.begin(bundle)
    stage.crew.died(first.pid, KILLED)
    third = stage.hired[2]
    assert (third.place, stage.order(third)) == (first.place, Order(bundle, death(KILLED)))
    assert stage.closed[2] == set(second.descriptors()), "its pipes would not end with the second"
    assert stage.events == []


def test_a_worker_that_ends_after_its_last_bundle_is_not_replaced(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Bundles("L", 1, 2))
    (worker,) = stage.hired
    stage.answer(worker)
    stage.crew.died(worker.pid, 0)
    assert (stage.crew.workers, len(stage.hired)) == ({}, 1)
    stage.close()


def test_strange_children_are_nobodys_worker(stage: Stage) -> None:
    stage.crew.died(7, KILLED)
    assert len(stage.hired) == 2


def test_workers_that_die_before_they_begin_end_the_launch(stage: Stage) -> None:
    for _ in range(STARTS_IN_VAIN):
        assert stage.events == []
        stage.crew.died(stage.hired[-1].pid, 256)
    (event,) = stage.events
    assert event == {"event": "error", "message": "Workers die before they start a trial: it ended with status 1."}


def test_a_bundle_whose_workers_die_without_end_is_given_up(stage: Stage) -> None:
    bundle = stage.order(stage.hired[0]).bundle
    stage.begin(bundle)
    longest = 3 * (bundle.stop - bundle.start) + STARTS_IN_VAIN
    worker = stage.hired[0]
    for _ in range(longest):
        assert stage.events == []
        stage.crew.died(worker.pid, KILLED)
        worker = stage.hired[-1]
    assert stage.events[0]["bundle"] == bundle.plain()
    assert stage.events[0]["error"].startswith("Its worker died again and again: it was killed (SIGKILL)")


def test_lines_are_whole(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    lines = Lines(reading)
    os.write(writing, b"one\ntw")
    assert lines.read() == [b"one"]
    os.write(writing, b"o\n")
    assert lines.read() == [b"two"]
    os.close(writing)
    assert lines.read() == []
    os.close(reading)
