"""From the table `model` of a configuration to a network with its initial weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from nnscan.data.packing import InputShape, several, stored_shape
from nnscan.dotted import load_function
from nnscan.models.cifarnet import cifarnet
from nnscan.models.cnn import cnn
from nnscan.models.fully_convolutional import fully_convolutional
from nnscan.models.generators import seed_torch
from nnscan.models.lenet import lenet
from nnscan.models.mlp import mlp
from nnscan.models.pairs import pair, siamese
from nnscan.models.plain_cnn import PLANS, plain_cnn
from nnscan.models.several_inputs import SeveralInputs
from nnscan.models.skip_mlp import skip_mlp
from nnscan.tasks.classification import CLASSIFICATION
from nnscan.tasks.outputs import Outputs, tensors

ModelSettings = Mapping[str, Any]
"""The table `model`, resolved: `name` and that model's options."""

ZOO: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "skip_mlp": skip_mlp,
    "cnn": cnn,
    "lenet": lenet,
    "fully_convolutional": fully_convolutional,
    "cifarnet": cifarnet,
    "pair": pair,
    "siamese": siamese,
    **{name: partial(plain_cnn, name) for name in PLANS},
}
"""nnscan's own networks: functions of the input's shape, the number of classes, and the model's options."""


Scores = Callable[[Outputs], Tensor]
"""What a task makes of a network's outputs: (N, classes)."""


def build(
    settings: ModelSettings,
    input_shape: InputShape,
    classes: int,
    *,
    seed: int = 0,
    weights: Path | None = None,
    scores: Scores = CLASSIFICATION.scores,
) -> nn.Module:
    """Return the network of `settings` on the CPU, initialised from `seed` alone.

    It takes float32 inputs of shape (N, *input_shape) and gives what the task makes scores of. torch's default
    generator is seeded for it and put back, so equal arguments give equal weights whatever ran before.

    Parameters
    ----------
    settings : mapping
        The table `model`: a name of `ZOO`, "torchvision:NAME" or "package.module:function". A user's function is called
        with its `arguments`, and with `input_shape`, `classes` and `seed` where its signature names them.
    input_shape : tuple of int, or of such tuples
        Shape of one example. Of several inputs the shape of each: a user's network is called with as many tensors, one
        of nnscan's sees them as one row of features.
    classes : int
        How many.
    seed : int
        In [0, 2^32).
    weights : Path, optional
        Folder of files of weights, named by their SHA-256, that is looked into before torch's.
    scores : callable
        Of the task that it is built for; for classification the outputs themselves.

    Raises
    ------
    ValueError, TypeError
        Where the network does not give what the task takes, a row an example; a network that cannot take `input_shape`
        raises its own error, with a note that says so, and so does a task that cannot take what the network gives.
    """
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        model = _network(dict(settings), input_shape, classes, seed, weights)
        outputs = _tried(model, settings["name"], input_shape)
    _check(outputs, settings["name"], classes, scores)
    return model


def _network(
    settings: dict[str, Any], input_shape: InputShape, classes: int, seed: int, weights: Path | None
) -> nn.Module:
    name = settings.pop("name")
    if name in ZOO:
        return ZOO[name](stored_shape(input_shape), classes, **settings)
    if name.startswith("torchvision:"):
        # torchvision takes most of a second to import, and most scans need it not.
        from nnscan.models.torchvision_models import torchvision_model

        shape = stored_shape(input_shape)
        return torchvision_model(name.removeprefix("torchvision:"), shape, classes, weights, **settings)
    offers = {"input_shape": input_shape, "classes": classes, "seed": seed}
    network = _of_function(name, settings.get("arguments", {}), offers)
    shapes = several(input_shape)
    return SeveralInputs(network, shapes) if shapes else network


def _of_function(path: str, arguments: Mapping[str, Any], offers: Mapping[str, Any]) -> nn.Module:
    """Return what the user's function gives, called with `arguments` and those of `offers` that it names."""
    function = load_function(path)
    named = signature(function).parameters
    model = function(**arguments, **{name: value for name, value in offers.items() if name in named})
    if not isinstance(model, nn.Module):
        raise ValueError(f"{path} returned {type(model).__name__}; a model function returns a torch.nn.Module.")
    return model


def _tried(model: nn.Module, name: str, input_shape: InputShape) -> Outputs:
    """Run two black examples through `model`: a wrong shape is told before an epoch is lost. Fills in lazy layers."""
    model.eval()
    try:
        with torch.inference_mode(not _is_lazy(model)):
            outputs: Outputs = model(torch.zeros(2, *stored_shape(input_shape)))
    except Exception as error:
        hint = " Set model.input_size to the size it wants." if name.startswith("torchvision:") else ""
        error.add_note(f"The model {name!r} cannot take examples of shape {input_shape}.{hint}")
        raise
    model.train()
    return outputs


def _check(outputs: Outputs, name: str, classes: int, scores: Scores) -> None:
    """Raise an error where the task cannot take the `outputs` of two examples."""
    try:
        rows = [tuple(one.shape) for one in tensors(outputs)]
        shape = tuple(scores(outputs).shape)
    except Exception as error:
        error.add_note(f"The task cannot take what the model {name!r} gives: {_described(outputs)}.")
        raise
    if shape != (2, classes):
        what = "" if isinstance(outputs, Tensor) else f" scores from {_described(outputs)}"
        raise ValueError(
            f"The model {name!r} gives {shape}{what} for two examples of {classes} classes, not (2, {classes})."
        )
    if any(row[:1] != (2,) for row in rows):
        raise ValueError(f"The model {name!r} gives {_described(outputs)} for two examples; each needs two rows.")


def _described(outputs: Any) -> str:
    """Return the shapes of outputs, by name or in order."""
    if isinstance(outputs, Mapping):
        return "{" + ", ".join(f"{name!r}: {_described(one)}" for name, one in outputs.items()) + "}"
    if isinstance(outputs, tuple | list):
        return "(" + ", ".join(map(_described, outputs)) + ")"
    return str(tuple(outputs.shape)) if isinstance(outputs, Tensor) else type(outputs).__name__


def _is_lazy(model: nn.Module) -> bool:
    """Whether layers wait for their first input (`nn.LazyLinear`); made in inference mode they could not train."""
    return any(isinstance(value, UninitializedParameter) for value in model.parameters())


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers the parameters of `model` hold, each once, frozen ones included."""
    return sum(value.numel() for value in model.parameters())
