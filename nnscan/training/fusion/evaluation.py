"""Networks of a stack evaluated together; each gets the values that it would have alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nnscan.tasks.outputs import changed
from nnscan.training.evaluate import evaluate
from nnscan.training.fusion.lanes import rows_of, runs
from nnscan.training.fusion.member import Member
from nnscan.training.fusion.network import StackedNetwork
from nnscan.training.loop import Row


@torch.inference_mode()
def validate(network: StackedNetwork, members: Sequence[Member]) -> Iterator[tuple[Member, Row]]:
    """Yield the `val_*` of each of `members`, which come in the order of their rows; none where nothing validates."""
    for run in runs(members, lambda member: id(member.data)):
        yield from zip(run, _of_run(network, run), strict=True)


def _of_run(network: StackedNetwork, run: Sequence[Member]) -> list[Row]:
    """Return those of trials that have one part to validate on, whose rows follow each other."""
    first, data, rows = run[0], run[0].data, rows_of(run)
    if not len(data.validation):
        return [{} for _ in run]
    found = [
        (changed(network.evaluate(rows, inputs.expand(len(run), *inputs.shape)), Tensor.clone), targets)
        for inputs, targets in data.validation_batches(first.state.evaluation_buffers)
    ]
    return [_of_one(found, place, member, data.classes) for place, member in enumerate(run)]


def _of_one(found: Sequence[tuple[object, Tensor]], place: int, member: Member, classes: int) -> Row:
    predicted = [(changed(outputs, lambda one: one[place]), targets) for outputs, targets in found]  # type: ignore[arg-type]
    return dict(evaluate(predicted, classes, member.state.task).metrics("val"))
