"""The training of one trial: an epoch is its steps, then an evaluation.

Of several ranks each does all of this at the same time, with its share of every batch; all come to the same rows, but
for what the clock says.

state = begin(trial, data)
rows = [first_row(state, data)]
while state.epoch < trial.epochs and not early_stopping.stop(rows, trial):
    row = train_epoch(state, data, interrupted)
    if row is None: ...  # interrupted() was true: save a checkpoint, leave or call again
    else: rows.append(row)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from nnscan.data.augmentation import Draws
from nnscan.data.batches import epoch_order
from nnscan.identity import Purpose
from nnscan.results.metric import best_epoch, smallest_wins
from nnscan.tasks.outputs import Outputs, changed, tensors
from nnscan.training.evaluate import Evaluation, autocast, evaluate, outputs
from nnscan.training.optimizers import set_learning_rate
from nnscan.training.state import RandomStates, TrainingState, batch_ends, copy_weights, epoch_seed, start_epoch
from nnscan.training.trial_data import Batch, TrialData

Row = dict[str, Any]
"""Metrics of an epoch."""

fused = 1
"""How many trials are trained at a time (`network.EpochLoop`)."""


def first_row(state: TrainingState, data: TrialData) -> Row:
    """Return the row of epoch 0: how well the network does before it is trained; `val_*` and `epoch_seconds`."""
    started = time.perf_counter()
    metrics = _validate(state, data)
    return {**metrics, "epoch_seconds": time.perf_counter() - started}


def train_epoch(state: TrainingState, data: TrialData, interrupted: Callable[[], bool]) -> Row | None:
    """Train `state` for an epoch, or for what is left of one, and return its row.

    Parameters
    ----------
    state : TrainingState
        Changed in place.
    data : TrialData
        Of the same trial.
    interrupted : callable
        Asked after every step; of several ranks all must hear the same (`Group.soon`).

    Returns
    -------
    dict, or None
        `train_loss` and `train_accuracy` (means over the examples as they were trained on), `val_*` where there is a
        validation part, `learning_rate` of the last step, `epoch_seconds` with the evaluation and
        `examples_per_second` without it. A loss that became NaN or infinite stands in the row as such.
        None where `interrupted()` was true: the state is whole, can be saved, and another call goes on exactly.
    """
    started = time.perf_counter()
    if state.step == 0:
        start_epoch(state, data.device)
    if state.random is not None:
        state.random.restore(data.device)
        state.random = None
    state.model.train()
    for indices in _batches_left(state, data):
        train_step(state, data, indices)
        if interrupted():
            state.sums.seconds += time.perf_counter() - started
            state.random = RandomStates.now(data.device)
            return None
    return _end_epoch(state, data, started)


def train_step(state: TrainingState, data: TrialData, indices: Tensor) -> None:
    """Take the epoch's next step of the optimiser, on the batch `indices` of all ranks together."""
    examples = len(indices)
    draws = data.draws(examples, state.augmentation)
    state.parameters.zero_gradients()
    *others, last = _parts(indices, draws, state.part_size)
    for part in others:
        with _kept_apart(state):
            add_gradient(state, data.share(*part, state.buffers, state.group), examples)
    add_gradient(state, data.share(*last, state.buffers, state.group), examples)
    if state.step_values:
        state.step_values.add_norms(state.step, state.group)
    if clip := state.trial.settings["training"]["gradient_clip"]:
        state.parameters.clip(clip)
    set_learning_rate(state.optimizer, state.schedule(state.steps))
    state.optimizer.step()
    state.sums.examples += examples
    state.step += 1


def add_gradient(state: TrainingState, share: Batch, examples: int) -> None:
    """Add to the gradient what this rank's share of a part of a batch has in it; counts the share in the epoch's sums.

    Over all shares the gradient becomes that of the mean loss of the batch's `examples`. Where there are several ranks
    it is the mean of theirs: so each weighs its own by their number.
    """
    inputs, targets = share
    state.presence.counts = bool(len(targets))
    with autocast(inputs.device, state.trial.settings["training"]["precision"]):
        outputs = state.network(inputs)
    if not len(targets):
        _of_nothing(outputs).backward()  # type: ignore[no-untyped-call]  # through all: the others wait for this rank
        return
    loss = state.task.mean_loss(outputs, targets)
    weight = len(targets) * state.group.size / examples
    (loss if weight == 1 else loss * weight).backward()  # type: ignore[no-untyped-call]
    # Sums stay on the device: reading one here would make every step wait for it.
    hits = _hits(state, outputs, targets)
    state.sums.loss.add_(loss.detach(), alpha=len(targets))
    state.sums.hits.add_(hits)
    if state.step_values:
        state.step_values.add_share(state.step, loss.detach(), hits, len(targets))


def keep_best(state: TrainingState, rows: list[Row], metric: str) -> None:
    """Keep a copy of the weights in `state.best` where the last of `rows` is the best so far by `metric`."""
    if best_of(rows, metric) == len(rows) - 1:
        state.best = copy_weights(state.model)


def best_of(rows: list[Row], metric: str) -> int | None:
    """Return which of `rows`, the first on ties, is best by `metric`; None where none has it."""
    return best_epoch([row.get(metric, math.nan) for row in rows], smallest_wins(metric))


def test(state: TrainingState, data: TrialData) -> tuple[Evaluation, Tensor]:
    """Return how well the network does on the test set, and its class probabilities there, (N, classes) float32.

    Every rank of a group has them all.

    The one place where the test set is read.
    """
    predicted = list(_predicted(state, data.test_batches(state.evaluation_buffers, state.group)))
    found = torch.cat([state.group.gather(state.task.probabilities(outputs).cpu()) for outputs, _ in predicted])
    return evaluate(predicted, data.classes, state.task, state.group), found


def _batches_left(state: TrainingState, data: TrialData) -> Iterator[Tensor]:
    """Yield the indices of each batch of the epoch that is yet to be trained on."""
    order = epoch_order(len(data.training), epoch_seed(state, Purpose.ORDER)).to(data.training.device)
    indices = data.training[order]
    ends = batch_ends(len(indices), state.trial.settings["training"]["batch_size"])
    for step, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if step >= state.step:
            yield indices[start:end]


def _batch_sizes(state: TrainingState, data: TrialData) -> list[int]:
    """Return the examples of each step of an epoch, of all ranks."""
    ends = batch_ends(len(data.training), state.trial.settings["training"]["batch_size"])
    return [stop - start for start, stop in pairwise([0, *ends])]


def _parts(indices: Tensor, draws: Draws | None, size: int) -> list[tuple[Tensor, Draws | None]]:
    """Return a batch in parts of `size`; the last may be smaller, or larger by one."""
    ends = batch_ends(len(indices), size)
    if len(ends) == 1:
        return [(indices, draws)]
    parts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    return [(indices[part], draws.of(part) if draws is not None else None) for part in parts]


def _kept_apart(state: TrainingState) -> AbstractContextManager[object]:
    """Return the context in which the ranks keep their gradients to themselves: the last part of a batch joins all."""
    return state.network.no_sync() if isinstance(state.network, DistributedDataParallel) else nullcontext()


def _end_epoch(state: TrainingState, data: TrialData, started: float) -> Row:
    """Evaluate after the epoch's last step and return its row; the state then stands before the next epoch."""
    sums = state.sums
    trained: Row = {
        "train_loss": state.group.add(sums.loss).item() / sums.examples,
        "train_accuracy": state.group.add(sums.hits).item() / sums.examples,
    }
    if state.step_values:
        state.step_values.end_epoch(_batch_sizes(state, data), state.group)
    seconds_before, sums.seconds = sums.seconds, sums.seconds + time.perf_counter() - started
    validated = _validate(state, data)
    row: Row = {
        **trained,
        **validated,
        "learning_rate": state.schedule(state.steps - 1),
        "epoch_seconds": seconds_before + time.perf_counter() - started,
        "examples_per_second": sums.examples / sums.seconds,
    }
    state.epoch, state.step = state.epoch + 1, 0
    return row


def _validate(state: TrainingState, data: TrialData) -> Row:
    if not len(data.validation):
        return {}
    predicted = _predicted(state, data.validation_batches(state.evaluation_buffers, state.group))
    return {**evaluate(predicted, data.classes, state.task, state.group).metrics("val")}


def _predicted(state: TrainingState, batches: Iterable[Batch]) -> Iterator[tuple[Outputs, Tensor]]:
    """Yield outputs and targets of this rank's share of each batch; the model is left in evaluation mode."""
    state.model.eval()
    for inputs, targets in batches:
        count = len(targets)
        state.presence.counts = bool(count)
        found = outputs(state.model, inputs, state.trial.settings["training"]["precision"])
        yield changed(found, partial(_first, count)), targets


def _first(count: int, values: Tensor) -> Tensor:
    return values[:count]


def _of_nothing(outputs: Outputs) -> Tensor:
    """Return the sum over no example of all that `outputs` hold."""
    return torch.stack([one[:0].sum() for one in tensors(outputs)]).sum()


def _hits(state: TrainingState, outputs: Outputs, targets: Tensor) -> Tensor:
    """Return how many of the examples are classified rightly."""
    scores = state.task.scores(changed(outputs, Tensor.detach))
    return (scores.argmax(1) == state.task.labels(targets)).sum()
