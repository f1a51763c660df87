"""A trained network as a folder that another person can use: no pickle, no scan, no data needed.

model.safetensors      parameters and buffers, by name
model.json             how to rebuild it, what its inputs and classes are, its configuration, provenance and results
predictions.parquet    the test set: index, label, prediction, probabilities (where it was tested)
examples.parquet       some of it as pictures, with what the network made of them (where its examples are pictures)
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import safetensors.torch
import torch
from torch import Tensor, nn

from nnscan.data.normalization import Normalization
from nnscan.data.packing import Shapes, pack
from nnscan.errors import DataError, NnscanError
from nnscan.models.build import build
from nnscan.results.folder import name_a_model, told, write_atomically
from nnscan.tasks import task
from nnscan.tasks.outputs import joined
from nnscan.tasks.task import Task
from nnscan.trial import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

FORMAT = 1
"""Raised when the folder's content changes so that older versions of nnscan cannot read it."""

EXAMPLES_AT_A_TIME = 64


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What `model.json` says of a network."""

    settings: Settings
    """Its whole configuration; `model` rebuilds it, `data` tells how its images were decoded."""

    configuration: str
    """Key of the configuration, 32 hex digits."""

    input_shape: tuple[int, ...]
    """Shape of one example."""

    input_type: str
    """`uint8` of images, `float32` of other numbers: what is normalised and fed to the network."""

    input_shapes: Shapes = ()
    """Of several inputs an example, the shape of each: `input_shape` is then that of all of them in one row."""

    classes: tuple[str, ...]
    """Names, in the order of the outputs."""

    normalization: Normalization
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Versions, fingerprints, scan, dates: what made it."""

    results: Mapping[str, Any] = field(default_factory=dict)
    """How well it did in validation and in its test."""

    @property
    def task(self) -> Task:
        """What it was trained for."""
        return task.of(self.settings["task"], len(self.classes))


@dataclass(frozen=True)
class LoadedModel:
    """A network and what it was trained to tell."""

    network: nn.Module
    card: ModelCard

    @torch.inference_mode()
    def predict(self, examples: Tensor | Sequence[Tensor]) -> Tensor:
        """Return class probabilities (N, classes), float32, of examples as stored (pixels from 0 to 255).

        Parameters
        ----------
        examples : Tensor, or a sequence of them
            (N, *input_shape). Of several inputs one tensor each, or all of them packed.

        Raises
        ------
        DataError
            Where shape or type are not those the network was trained on.
        """
        images = examples if isinstance(examples, Tensor) else self._packed(examples)
        outputs = [self.network(self.inputs(part)) for part in torch.split(images, EXAMPLES_AT_A_TIME)]
        return self.card.task.probabilities(joined(outputs))

    def inputs(self, images: Tensor) -> Tensor:
        """Return what the network is fed for examples as stored: float32, normalised as in training.

        Raises
        ------
        DataError
            Where shape or type are not those the network was trained on.
        """
        self._check(images)
        scale, shift = self.card.normalization.tensors(images.dim())
        return images.float() * scale + shift

    def _packed(self, inputs: Sequence[Tensor]) -> Tensor:
        found = tuple(tuple(values.shape[1:]) for values in inputs)
        if found != self.card.input_shapes or len({len(values) for values in inputs}) != 1:
            raise DataError(
                f"The model takes inputs of shapes {self.card.input_shapes or self.card.input_shape}; found {found}, of"
                f" {[len(values) for values in inputs]} examples."
            )
        return pack(inputs)

    def _check(self, images: Tensor) -> None:
        found = (tuple(images.shape[1:]), str(images.dtype).removeprefix("torch."))
        wanted = (tuple(self.card.input_shape), self.card.input_type)
        if found != wanted or not len(images):
            raise DataError(
                f"The model takes examples of shape {wanted[0]} and type {wanted[1]}, one or more; found {len(images)}"
                f" of shape {found[0]} and type {found[1]}."
            )


def save_model(
    folder: Path,
    network: nn.Module,
    card: ModelCard,
    predictions: pa.Table | None = None,
    examples: pa.Table | None = None,
) -> None:
    """Write `network` as the folder `folder`, which appears whole or not at all; one that is there is replaced.

    Parameters
    ----------
    folder : Path
        Where to; the folders above are made.
    network : nn.Module
        On any device.
    card : ModelCard
        What to say of it.
    predictions : pyarrow.Table, optional
        What `predictions_table` gives, of a network that was tested.
    examples : pyarrow.Table, optional
        What `nnscan.models.examples.examples_table` gives, likewise.

    Raises
    ------
    StoreError
        Where it cannot be written; the folder that was there stays.
    """
    weights = safetensors.torch.save(_separate_tensors(network))
    files = {"model.safetensors": weights, "model.json": json.dumps(_as_json(card, weights), indent=2).encode()}
    tables = {"predictions.parquet": predictions, "examples.parquet": examples}
    files |= {name: _as_parquet(table) for name, table in tables.items() if table is not None}
    with told(folder), _put_in_place(folder) as new:
        for name, content in files.items():
            write_atomically(new / name, content)


def load_model(folder: Path) -> LoadedModel:
    """Return the network in `folder`, on the CPU and ready to predict.

    Raises
    ------
    DataError
        Where the folder is no model folder, lacks a file, or is damaged.
    ScanError
        Where the network is a user's function that cannot be imported here.
    """
    content = _read(folder, "model.json")
    try:
        card, digest = _from_json(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder / "model.json", f"{type(error).__name__}: {error}") from error
    weights = _read(folder, "model.safetensors")
    if hashlib.sha256(weights).hexdigest() != digest:
        raise _damaged(folder / "model.safetensors", "its SHA-256 is not the one in model.json")
    return LoadedModel(_rebuilt(card, weights, folder).eval(), card)


def predictions_table(probabilities: Tensor, labels: Tensor, classes: Sequence[str]) -> pa.Table:
    """Return the table of a test: `index` in the test set, `label` and `prediction` by name, `probabilities` a class.

    Parameters
    ----------
    probabilities : Tensor of shape (N, C), float32
    labels : Tensor of shape (N,), int64
        True classes.
    classes : sequence of str
        Names of the C classes.
    """
    import pyarrow as pa

    names = pa.array(list(classes), pa.string())
    return pa.table(
        {
            "index": pa.array(range(len(labels)), pa.int64()),
            "label": names.take(pa.array(labels.tolist())),
            "prediction": names.take(pa.array(probabilities.argmax(1).tolist())),
            "probabilities": pa.array(probabilities.tolist(), pa.list_(pa.float32())),
        }
    )


def _as_json(card: ModelCard, weights: bytes) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "classes": list(card.classes),
        "input": _input_as_json(card),
        "results": _without_nan(card.results),
        "configuration": {"key": card.configuration, **card.settings},
        "provenance": dict(card.provenance),
        "sha256": hashlib.sha256(weights).hexdigest(),
    }


def _input_as_json(card: ModelCard) -> dict[str, Any]:
    shapes = {"shapes": [list(shape) for shape in card.input_shapes]} if card.input_shapes else {}
    return {"shape": list(card.input_shape), **shapes, "type": card.input_type, **card.normalization.as_json()}


def _without_nan(value: Any) -> Any:
    """Return `value` with None for NaN and infinity (the accuracy of a class without examples): JSON has neither."""
    if isinstance(value, Mapping):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(content: Mapping[str, Any]) -> tuple[ModelCard, str]:
    """Return the card and the SHA-256 of the weights."""
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}; this nnscan reads {FORMAT}")
    settings = dict(content["configuration"])
    card = ModelCard(
        configuration=settings.pop("key"),
        settings=settings,
        input_shape=tuple(content["input"]["shape"]),
        input_type=content["input"]["type"],
        input_shapes=tuple(map(tuple, content["input"].get("shapes", ()))),
        classes=tuple(content["classes"]),
        normalization=Normalization.from_json(content["input"]),
        provenance=content["provenance"],
        results=content["results"],
    )
    return card, content["sha256"]


def _separate_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return the state with a tensor of its own under each name: safetensors refuses views that share memory."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in network.state_dict().items()
    }


def _rebuilt(card: ModelCard, weights: bytes, folder: Path) -> nn.Module:
    try:
        model = _without_pretrained(card.settings["model"])
        network = build(model, card.input_shapes or card.input_shape, len(card.classes), scores=card.task.scores)
        network.load_state_dict(safetensors.torch.load(weights))
    except NnscanError:
        raise
    except Exception as error:  # a user's function may throw anything, or build something else than it did
        name = card.settings["model"]["name"]
        raise DataError(f"The weights in {folder} do not fit what {name!r} builds now: {error}") from error
    return network


def _without_pretrained(model: Settings) -> Settings:
    """Return the table `model` such that building needs no weights from elsewhere: those in the folder follow."""
    return {**model, "weights": "none"} if model["name"].startswith("torchvision:") else model


def _as_parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet

    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


@contextmanager
def _put_in_place(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside `folder` to be filled; it then takes the place of `folder`."""
    new, old = (folder.with_name(f".{folder.name}.{kind}.{uuid4().hex}") for kind in ("new", "old"))
    new.mkdir(parents=True)
    try:
        yield new
        if folder.exists():
            folder.rename(old)  # a folder that is not empty cannot be replaced in one step
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise DataError(
            f"{folder} is not a model folder: {name} in it cannot be read ({error.strerror}). {name_a_model(folder)}"
        ) from error


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}. Copy the folder anew, or retrain the model.")
