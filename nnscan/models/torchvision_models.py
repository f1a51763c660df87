"""torchvision's image classifiers, fitted to other numbers of classes, channels and pixels."""

from __future__ import annotations

import hashlib
import http.client
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from safetensors.torch import load_file
from torch import Tensor, nn

from nnscan.errors import DataError

_AUXILIARY_HEADS = {"googlenet", "inception_v3"}
"""Networks that train with extra outputs unless told otherwise; nnscan trains the main one alone."""


class FittedInput(nn.Module):
    """A network for RGB images behind what fits the data to it: grey repeated to three channels, and a resize."""

    def __init__(self, network: nn.Module, *, grey: bool, input_size: int) -> None:
        super().__init__()
        self.network = network
        self.grey = grey
        self.input_size = input_size

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of images (N, 1 or 3, H, W)."""
        return self.network(self.fitted_input(images))  # type: ignore[no-any-return]

    def fitted_input(self, images: Tensor) -> Tensor:
        """Return what the network behind gets of images (N, 1 or 3, H, W): (N, 3, height, width)."""
        if self.grey:
            # Repeated, not a first convolution of one channel: so pretrained weights apply as they are.
            images = images.expand(-1, 3, -1, -1)
        if self.input_size and images.shape[-2:] != (self.input_size, self.input_size):
            images = nn.functional.interpolate(
                images, size=(self.input_size, self.input_size), mode="bilinear", antialias=True
            )
        return images


def torchvision_model(
    name: str, input_shape: tuple[int, ...], classes: int, *, weights: str, input_size: int
) -> FittedInput:
    """Return torchvision's network `name` with a head for `classes`, behind `FittedInput`.

    `weights` is "none", a name such as "IMAGENET1K_V1", or "sha256:..." of a file in torch's folder of weights
    (`torch.hub.get_dir()`, below it `checkpoints`). All of them are taken but the head, which starts anew
    (it is kept where the weights happen to be for as many classes). Everything trains; nothing is frozen.

    Raises
    ------
    DataError
        Where the weights are unknown, cannot be had, or fit another network.
    ValueError
        Where there is no such network, or the data are not images of one or three channels.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise ValueError(
            f"'torchvision:{name}' takes images of 1 or 3 channels; the data have shape {input_shape}."
            " Use 'mlp', or a model function of your own."
        )
    network = _network(name, classes)
    if weights != "none":
        _load_all_but_head(network, _weights(name, weights), f"weights {weights!r} for 'torchvision:{name}'")
    return FittedInput(network, grey=input_shape[0] == 1, input_size=input_size)


def _network(name: str, classes: int) -> nn.Module:
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY_HEADS else {}
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **options)  # type: ignore[no-any-return]


def _load_all_but_head(network: nn.Module, weights: dict[str, Tensor], what: str) -> None:
    """Copy `weights` into `network` where names and shapes agree; only the last layer may be left out."""
    own = network.state_dict()
    fitting = {name: value for name, value in weights.items() if name in own and own[name].shape == value.shape}
    head = _head(network)
    missing = [name for name in own if name not in fitting and name.rpartition(".")[0] != head]
    if missing:
        raise DataError(f"The {what} lack {missing[0]!r} (and {len(missing) - 1} more): they are of another network.")
    network.load_state_dict(fitting, strict=False)


def _head(network: nn.Module) -> str:
    """Return the path of the layer that gives the logits: in all of torchvision's classifiers the last of these."""
    layers: list[str] = [path for path, one in network.named_modules() if isinstance(one, nn.Linear | nn.Conv2d)]
    return layers[-1]


def _weights(name: str, weights: str) -> dict[str, Tensor]:
    if weights.startswith("sha256:"):
        return _read_weights(_file_of_digest(weights.removeprefix("sha256:")))
    known = torchvision.models.get_model_weights(name)
    if weights not in known.__members__:
        names = ", ".join(key for key in known.__members__ if key != "DEFAULT")
        raise DataError(f"'torchvision:{name}' has no weights {weights!r}. It has: {names}; or 'none'.")
    return _named_weights(known[weights])


def _named_weights(weights: Any) -> dict[str, Tensor]:
    try:
        return weights.get_state_dict(progress=False, check_hash=True)  # type: ignore[no-any-return]
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: a hash that does not match
        file = _folder_of_weights() / weights.url.rpartition("/")[2]
        raise DataError(
            f"The weights {weights} are not at {file} and could not be downloaded from {weights.url}: {error}."
            f" Download them where there is a network and copy them to {file}."
        ) from error


def _file_of_digest(digest: str) -> Path:
    """Return the file in torch's folder of weights with this SHA-256."""
    folder = _folder_of_weights()
    files = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    # torchvision's names hold the first 8 digits, so the right file is as a rule the first that is read.
    for path in sorted(files, key=lambda path: digest[:8] not in path.name):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest.lower():
                return path
    raise DataError(
        f"None of the {len(files)} files in {folder} has the SHA-256 {digest}. Copy the file of weights there,"
        " on every machine that trains."
    )


def _read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    weights = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise DataError(f"{path} holds no dict of tensors, as torch.save(model.state_dict(), ...) writes.")
    return weights


def _folder_of_weights() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"
