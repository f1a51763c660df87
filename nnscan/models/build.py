"""From the table `model` of a configuration to a network with its initial weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter

from nnscan.dotted import load_function
from nnscan.models.cifarnet import cifarnet
from nnscan.models.cnn import cnn
from nnscan.models.fully_convolutional import fully_convolutional
from nnscan.models.lenet import lenet
from nnscan.models.mlp import mlp
from nnscan.models.plain_cnn import PLANS, plain_cnn
from nnscan.models.skip_mlp import skip_mlp

ModelSettings = Mapping[str, Any]
"""The table `model`, resolved: `name` and that model's options."""

ZOO: Mapping[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "skip_mlp": skip_mlp,
    "cnn": cnn,
    "lenet": lenet,
    "fully_convolutional": fully_convolutional,
    "cifarnet": cifarnet,
    **{name: partial(plain_cnn, name) for name in PLANS},
}
"""nnscan's own networks: functions of the input's shape, the number of classes, and the model's options."""


def build(
    settings: ModelSettings, input_shape: tuple[int, ...], classes: int, *, seed: int = 0, weights: Path | None = None
) -> nn.Module:
    """Return the network of `settings` on the CPU, initialised from `seed` alone.

    It takes float32 inputs of shape (N, *input_shape) and gives logits of shape (N, classes). torch's default
    generator is seeded for it and put back, so equal arguments give equal weights whatever ran before.

    Parameters
    ----------
    settings : mapping
        The table `model`: a name of `ZOO`, "torchvision:NAME" or "package.module:function". A user's function is called
        with its `arguments`, and with `input_shape`, `classes` and `seed` where its signature names them.
    input_shape : tuple of int
        Shape of one example.
    classes : int
        How many.
    seed : int
        In [0, 2^32).
    weights : Path, optional
        Folder of files of weights, named by their SHA-256, that is looked into before torch's.

    Raises
    ------
    ValueError
        Where the network does not give (N, classes); a network that cannot take `input_shape` raises its own error,
        with a note that says so.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _network(dict(settings), input_shape, classes, seed, weights)
        _check(model, settings["name"], input_shape, classes)
    return model


def _network(
    settings: dict[str, Any], input_shape: tuple[int, ...], classes: int, seed: int, weights: Path | None
) -> nn.Module:
    name = settings.pop("name")
    if name in ZOO:
        return ZOO[name](input_shape, classes, **settings)
    if name.startswith("torchvision:"):
        # torchvision takes most of a second to import, and most scans need it not.
        from nnscan.models.torchvision_models import torchvision_model

        return torchvision_model(name.removeprefix("torchvision:"), input_shape, classes, weights, **settings)
    offers = {"input_shape": input_shape, "classes": classes, "seed": seed}
    return _of_function(name, settings.get("arguments", {}), offers)


def _of_function(path: str, arguments: Mapping[str, Any], offers: Mapping[str, Any]) -> nn.Module:
    """Return what the user's function gives, called with `arguments` and those of `offers` that it names."""
    function = load_function(path)
    named = signature(function).parameters
    model = function(**arguments, **{name: value for name, value in offers.items() if name in named})
    if not isinstance(model, nn.Module):
        raise ValueError(f"{path} returned {type(model).__name__}; a model function returns a torch.nn.Module.")
    return model


def _check(model: nn.Module, name: str, input_shape: tuple[int, ...], classes: int) -> None:
    """Run two black examples through `model`: a wrong shape is told before an epoch is lost. Fills in lazy layers."""
    model.eval()
    try:
        with torch.inference_mode(not _is_lazy(model)):
            outputs = model(torch.zeros(2, *input_shape))
    except Exception as error:
        hint = " Set model.input_size to the size it wants." if name.startswith("torchvision:") else ""
        error.add_note(f"The model {name!r} cannot take examples of shape {input_shape}.{hint}")
        raise
    shape = tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__
    if shape != (2, classes):
        raise ValueError(f"The model {name!r} gives {shape} for two examples of {classes} classes, not (2, {classes}).")
    model.train()


def _is_lazy(model: nn.Module) -> bool:
    """Whether layers wait for their first input (`nn.LazyLinear`); made in inference mode they could not train."""
    return any(isinstance(value, UninitializedParameter) for value in model.parameters())


def count_parameters(model: nn.Module) -> int:
    """Return how many numbers the parameters of `model` hold, each once, frozen ones included."""
    return sum(value.numel() for value in model.parameters())
