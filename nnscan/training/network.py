"""nnscan's own training of a trial, from its checkpoint or from the start to its last epoch, its test and its model."""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch._dynamo  # torch does at the first optimiser: 2 s that belong to no trial
from torch import Tensor

from nnscan.allocation import AllocationEndedError, Reason
from nnscan.data.batches import resident
from nnscan.data.dataset import Dataset, load
from nnscan.errors import DataError, StoreError
from nnscan.identity import NUMERICS, Purpose, canonical_json, seed32
from nnscan.models.examples import Examined, calibration_error, examples_table
from nnscan.models.folder import ModelCard, predictions_table, save_model
from nnscan.training import checkpoint, early_stopping, kept, loop
from nnscan.training.place import Place
from nnscan.training.state import TrainingState, begin
from nnscan.training.trial_data import TrialData, shared_by
from nnscan.trial import Kind, Trial

if TYPE_CHECKING:
    import pyarrow as pa

Metrics = dict[str, Any]


def warm_up() -> None:
    """Take a step of a tiny network: the first optimiser of a process loads torch's compiler front end, 1 to 2 s."""
    torch.set_num_threads(1)  # before the first operation: a pool of threads, once there, stays
    weights = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weights], fused=True)
    (weights * 2).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


class EpochLoop(Protocol):
    """What trains a trial: `nnscan.training.loop` is one."""

    @property
    def fused(self) -> int:
        """With how many it was trained at a time, at most, itself among them."""
        ...

    def first_row(self, state: TrainingState, data: TrialData) -> Metrics:
        """Return the row of epoch 0."""
        ...

    def train_epoch(self, state: TrainingState, data: TrialData, interrupted: Callable[[], bool]) -> Metrics | None:
        """Return the row of the next epoch; None where it was interrupted."""
        ...


Join = Callable[[TrainingState, TrialData, Callable[[], bool]], EpochLoop]
"""Returns what trains a trial, given whether it wants another epoch after the rows that it has."""


def alone(state: TrainingState, data: TrialData, goes_on: Callable[[], bool]) -> EpochLoop:  # noqa: ARG001
    """Let a trial be trained by itself."""
    return loop


@dataclass(frozen=True)
class NetworkTraining:
    """A network being trained for a trial."""

    trial: Trial
    place: Place
    data: TrialData
    state: TrainingState
    rows: list[Metrics]
    """Of the epochs so far; of a resumed attempt those of its checkpoint."""
    loop: EpochLoop
    """What trains an epoch: `nnscan.training.loop`, or a group of trials that are trained together."""

    @property
    def first_epoch(self) -> int:
        """A trial's first row is epoch 0, before any training; a retraining has nothing to be evaluated on then."""
        return 0 if self.trial.kind is Kind.TRIAL else 1

    @classmethod
    def open(cls, trial: Trial, place: Place, join: Join = alone) -> NetworkTraining:
        """Return the training of `trial` as its newest checkpoint left it, or before its first step.

        `join` says what trains it.
        """
        torch.set_num_threads(place.launch.threads)
        _choose_operations(place.launch.deterministic)
        data = _trial_data(trial, place)
        _check_alike(data, place)
        found = checkpoint.load_newest(
            place.folder.checkpoints, trial.key, fingerprint=_fingerprint(trial, place, data), group=place.group
        )
        for reason in found.passed_over:
            print(f"passed over a checkpoint: {reason}", flush=True)  # into the worker's log
        weights = place.folder.weights
        if found.checkpoint is None:
            state = begin(trial, data, place.group, weights=weights)
            rows = []
            if state.anew:
                print(f"the warm start has no weights of these, which start anew: {', '.join(state.anew)}", flush=True)
        else:
            state = checkpoint.restore(found.checkpoint, trial, data, place.group, weights=weights)
            rows = found.checkpoint.rows
        goes_on = partial(_goes_on, trial, rows)
        training = cls(trial, place, data, state, rows, join(state, data, goes_on))
        training._remove_later_epochs()
        return training

    def columns(self) -> Metrics:
        """Return what data and code were, how large the network is, and with how many it was trained until now."""
        return {**self._origin(), "fused": self.loop.fused}

    def _origin(self) -> Metrics:
        return {
            "data_fingerprint": self.data.dataset.fingerprint,
            "code_fingerprint": self.place.code_fingerprint(self.trial.settings),
            "parameters": sum(parameter.numel() for parameter in self.state.model.parameters()),
        }

    def epochs(self) -> Iterator[Metrics | None]:
        """Yield the metrics of each epoch, those of the checkpoint first; checkpoints are saved as the launch asks.

        None where it was saved within an epoch: trials that are trained together are interrupted together, and each
        saves itself when it is its turn.

        Raises
        ------
        AllocationEndedError
            On every rank at the same step, with the training saved.
        """
        yield from list(self.rows)
        if not self.rows and self.trial.kind is Kind.TRIAL:
            yield self._add(self.loop.first_row(self.state, self.data))
        timer = Timer(self.place.launch.checkpoint_minutes * 60)
        while _goes_on(self.trial, self.rows):
            row = self.loop.train_epoch(self.state, self.data, lambda: self._is_interrupted(timer))
            if row is None:
                self._save()
                self._end_with_allocation()
                timer.restart()
            elif self._add(row) and self._epochs_are_due():
                self._save()  # before the row is told: in a group the next epoch is trained when another asks for it
            yield row

    def steps(self, epoch: int) -> dict[str, list[float]]:
        """Return what was measured in each step of an epoch that is over, those of the checkpoint too."""
        values = self.state.step_values
        return values.of_epoch(epoch) if values and epoch else {}

    def finish(self) -> Metrics:
        """Test a retraining and leave its model; leave the weights that a trial was asked to keep."""
        if self.trial.kind is Kind.RETRAINING:
            return self._test_and_save()
        if self.state.best is not None and self.place.group.rank == 0:
            self.state.model.load_state_dict(self.state.best)
            best = loop.best_of(self.rows, self.place.launch.metric)
            assert best is not None  # its weights are there
            card = self._card(best)
            save_model(self.place.folder.kept / self.trial.key, self.state.model, card)
        return {}

    def remove_checkpoints(self) -> None:
        """Remove the checkpoints of the trial, whoever wrote them."""
        if self.place.group.rank == 0:
            checkpoint.remove(self.place.folder.checkpoints, self.trial.key)

    def _add(self, row: Metrics) -> Metrics:
        self.rows.append(row)
        if kept.is_due(self.state):
            self._keep_epoch()
        keeps = self.trial.settings["training"]["keep"] == "best" and self.trial.kind is Kind.TRIAL
        if keeps and self.place.group.rank == 0:
            loop.keep_best(self.state, self.rows, self.place.launch.metric)
        return row

    def _keep_epoch(self) -> None:
        """Keep the weights as they are; StoreError, on every rank, where they cannot be written."""
        refused = None
        if self.place.group.rank == 0:
            try:
                kept.keep(self.place.folder, self.state, self._card(self.state.epoch))
            except StoreError as error:
                refused = error
        if self.place.group.agree(refused is not None):
            raise refused or StoreError(f"The weights of {self.trial.key} cannot be kept: rank 0 says why.")

    def _remove_later_epochs(self) -> None:
        """Remove weights that an attempt before this one kept, of epochs that are yet to come."""
        if self.place.group.rank == 0 and self.trial.settings["training"].get("keep_every"):
            kept.remove_later(self.place.folder, self.trial.key, self.state.epoch)

    def _is_interrupted(self, timer: Timer) -> bool:
        return self.place.group.soon(timer.is_due() or self.place.allocation.reason is not None)

    def _end_with_allocation(self) -> None:
        for reason in (Reason.TERMINATED, Reason.TIME_LIMIT):  # where ranks were told different ones, the graver
            if self.place.group.agree(self.place.allocation.reason is reason):
                raise AllocationEndedError(reason)

    def _epochs_are_due(self) -> bool:
        every = self.place.launch.checkpoint_epochs
        return bool(every) and self.state.epoch % every == 0 and self.state.epoch < self.trial.epochs

    def _save(self) -> None:
        self.place.check()
        folder, fingerprint = self.place.folder.checkpoints, _fingerprint(self.trial, self.place, self.data)
        checkpoint.save(folder, self.place.writer, self.state, self.rows, fingerprint=fingerprint)

    def _test_and_save(self) -> Metrics:
        evaluation, found = loop.test(self.state, self.data)
        metrics = evaluation.metrics("test")
        if self.place.group.rank == 0 and self.trial.replicate == 0:  # further ones tell the spread, and leave a row
            self._save_models(metrics, found)
        more = {f"test_{name}": value for name, value in evaluation.more.items()}
        return {**metrics, "metrics": {**self._row_of(self.state.epoch), **more}}

    def _save_models(self, metrics: Metrics, found: Tensor) -> None:
        dataset = self.data.dataset
        tested = Examined(dataset.test_images, dataset.test_labels, found)
        predictions = predictions_table(found, dataset.test_labels, dataset.classes)
        card = self._card(self.state.epoch, {**metrics, "test_calibration_error": calibration_error(tested)})
        examples = self._examples(tested) if tested.shows else None
        for family in self.trial.families:
            save_model(self.place.folder.models / family, self.state.model, card, predictions, examples)

    def _examples(self, tested: Examined) -> pa.Table:
        seed = seed32(self.trial.settings["training"]["seed"], Purpose.EXAMPLES, replicate=self.trial.replicate)
        return examples_table(tested, self.state.model, self.data.normalization, self.data.dataset.classes, seed)

    def _card(self, epoch: int, test: Metrics | None = None) -> ModelCard:
        """Return what there is to say of the weights after `epoch`, and of their test."""
        images = self.data.images
        return ModelCard(
            settings=self.trial.settings,
            configuration=self.trial.configuration,
            input_shape=self.data.input_shape,
            input_shapes=self.data.dataset.input_shapes,
            input_type=str(images.dtype).removeprefix("torch."),
            classes=self.data.dataset.classes,
            normalization=self.data.normalization,
            provenance={
                **self.place.launch.provenance,
                "trial": self.trial.key,
                "numerics": NUMERICS,
                **self._origin(),
            },
            results={"epochs": epoch, "last_epoch": self._row_of(epoch), **(test or {})},
        )

    def _row_of(self, epoch: int) -> Metrics:
        """Return the metrics of an epoch; nothing of epoch 0 of a retraining."""
        return dict(enumerate(self.rows, self.first_epoch)).get(epoch, {})


@dataclass
class Timer:
    """Says when so many seconds have passed; 0 is never."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def is_due(self) -> bool:
        """Return whether they have."""
        return bool(self.seconds) and time.monotonic() - self.started >= self.seconds

    def restart(self) -> None:
        """Begin anew."""
        self.started = time.monotonic()


def _goes_on(trial: Trial, rows: list[Metrics]) -> bool:
    """Return whether a trial wants another epoch after those that it has told.

    In a group the state may be an epoch ahead.
    """
    told = len(rows) - (trial.kind is Kind.TRIAL)  # the first row of a trial is epoch 0
    return told < trial.epochs and not early_stopping.stop(rows, trial)


def _choose_operations(deterministic: bool) -> None:
    """Let torch take only operations that give the same bits every time, or any.

    Of operations that have no such kernel torch raises a RuntimeError that names them.
    """
    if deterministic == torch.are_deterministic_algorithms_enabled():
        return  # the call below loads torch's compiler, which takes seconds
    if deterministic:
        # cuBLAS reads it once, at its first call: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic


def _check_alike(data: TrialData, place: Place) -> None:
    """Raise DataError, on every rank, where one has other data than rank 0: a trial would be trained on a mixture."""
    own = data.dataset.fingerprint
    theirs = place.group.tell(own.encode()).decode()
    if place.group.agree(own != theirs):
        raise DataError(
            f"The processes of the trial see different data below {place.data_root}: rank {place.group.rank}"
            f" {own}, rank 0 {theirs}. Let every node see the same files, then launch again."
        )


def _fingerprint(trial: Trial, place: Place, data: TrialData) -> str:
    return f"{data.dataset.fingerprint} {place.code_fingerprint(trial.settings)}"


def _trial_data(trial: Trial, place: Place) -> TrialData:
    """Return the data of `trial`, kept for the next one with the same: normalisation is a pass over all images."""
    dataset = _dataset(
        canonical_json(trial.settings["data"]),
        place.data_root,
        place.folder.cache,
        trial.settings["training"]["seed"],
        trial.replicate,
        place.device,
        place.launch.name,
    )
    key = canonical_json([dataset.fingerprint, place.device, *shared_by(trial)])
    if key not in _kept:
        _kept[key] = TrialData.of(dataset, trial, place.device)
    _kept.move_to_end(key)
    if len(_kept) > KEPT:
        _kept.popitem(last=False)
    return _kept[key]


KEPT = 16
"""Data of so many trials are kept: the folds of a configuration come one after another. All share the images."""

_kept: OrderedDict[str, TrialData] = OrderedDict()


@lru_cache(maxsize=1)
def _dataset(settings: str, root: Path, cache: Path, seed: int, replicate: int, device: str, launch: str) -> Dataset:  # noqa: ARG001
    """Return the data set, on the device where it fits.

    Once a process and launch: listing an image folder takes a while, and by the next launch it may have changed.
    """
    dataset = load(json.loads(settings), root=root, cache=cache, seed=seed, replicate=replicate)
    return replace(dataset, images=resident(dataset.images, device))
