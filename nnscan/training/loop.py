"""The training of one trial: an epoch is its steps, then an evaluation.

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
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nnscan.data.batches import epoch_order
from nnscan.identity import Purpose
from nnscan.models.outputs import probabilities
from nnscan.results.metric import best_epoch, smallest_wins
from nnscan.training.evaluate import Evaluation, autocast, evaluate, predict
from nnscan.training.losses import mean_loss
from nnscan.training.optimizers import set_learning_rate
from nnscan.training.state import RandomStates, TrainingState, batch_ends, copy_weights, epoch_seed, start_epoch
from nnscan.training.trial_data import TrialData

Row = dict[str, Any]
"""Metrics of an epoch."""


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
        Asked after every step.

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
        _step(state, data, indices)
        if interrupted():
            state.sums.seconds += time.perf_counter() - started
            state.random = RandomStates.now(data.device)
            return None
    return _end_epoch(state, data, started)


def train_step(state: TrainingState, inputs: Tensor, labels: Tensor) -> Tensor:
    """Take one step of the optimiser on a batch and return its mean loss; counts the batch in the epoch's sums."""
    settings = state.trial.settings
    with autocast(inputs.device, settings["training"]["precision"]):
        outputs = state.model(inputs)
    loss = mean_loss(outputs, labels, settings["task"])
    state.parameters.zero_gradients()
    loss.backward()  # type: ignore[no-untyped-call]
    if settings["training"]["gradient_clip"]:
        state.parameters.clip(settings["training"]["gradient_clip"])
    state.optimizer.step()
    # Sums stay on the device: reading one here would make every step wait for it.
    state.sums.loss.add_(loss.detach(), alpha=len(labels))
    state.sums.hits.add_((outputs.detach().argmax(1) == labels).sum())
    state.sums.examples += len(labels)
    return loss


def keep_best(state: TrainingState, rows: list[Row], metric: str) -> None:
    """Keep a copy of the weights in `state.best` where the last of `rows` is the best so far by `metric`."""
    if best_epoch([row.get(metric, math.nan) for row in rows], smallest_wins(metric)) == len(rows) - 1:
        state.best = copy_weights(state.model)


def test(state: TrainingState, data: TrialData) -> tuple[Evaluation, Tensor]:
    """Return how well the network does on the test set, and its class probabilities there, (N, classes) float32.

    The one place where the test set is read.
    """
    task = state.trial.settings["task"]
    batches = data.test_batches(state.evaluation_buffers)
    predicted = list(predict(state.model, batches, state.trial.settings["training"]["precision"]))
    found = torch.cat([probabilities(outputs, task["loss"]).cpu() for outputs, _ in predicted])
    return evaluate(predicted, data.classes, task), found


def _batches_left(state: TrainingState, data: TrialData) -> Iterator[Tensor]:
    """Yield the indices of each batch of the epoch that is yet to be trained on."""
    order = epoch_order(len(data.training), epoch_seed(state, Purpose.ORDER)).to(data.training.device)
    indices = data.training[order]
    ends = batch_ends(len(indices), state.trial.settings["training"]["batch_size"])
    for step, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if step >= state.step:
            yield indices[start:end]


def _step(state: TrainingState, data: TrialData, indices: Tensor) -> None:
    draws = data.draws(len(indices), state.augmentation)
    inputs, labels = data.batch(indices, state.buffers, draws)
    set_learning_rate(state.optimizer, state.schedule(state.steps))
    train_step(state, inputs, labels)
    state.step += 1


def _end_epoch(state: TrainingState, data: TrialData, started: float) -> Row:
    """Evaluate after the epoch's last step and return its row; the state then stands before the next epoch."""
    sums = state.sums
    trained: Row = {
        "train_loss": sums.loss.item() / sums.examples,
        "train_accuracy": sums.hits.item() / sums.examples,
    }
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
    settings = state.trial.settings
    batches = data.validation_batches(state.evaluation_buffers)
    predicted = predict(state.model, batches, settings["training"]["precision"])
    return {**evaluate(predicted, data.classes, settings["task"]).metrics("val")}
