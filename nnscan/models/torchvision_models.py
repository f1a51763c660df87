"""torchvision's image classifiers, fitted to other numbers of classes, channels and pixels."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn

from nnscan.errors import DataError, Problem, ScanError
from nnscan.models.weights import Weights, load_all_but_head, of_digest, parse, torch_folder

_AUXILIARY_HEADS = {"googlenet", "inception_v3"}
"""Networks that train with extra outputs unless told otherwise; nnscan trains the main one alone."""

IMAGENET_LABELS = 1000

Ranges = Sequence[Sequence[int]]
"""Of each class the labels that it has: first and last of each range, one range after another."""


class FittedInput(nn.Module):
    """A network for RGB images behind what fits the data to it: grey repeated to three channels, and a resize.

    Where `class_ranges` are given its outputs are ImageNet's, and become those of the classes.
    """

    def __init__(self, network: nn.Module, *, grey: bool, input_size: int, class_ranges: Ranges = ()) -> None:
        super().__init__()
        self.network = network
        self.grey = grey
        self.input_size = input_size
        self.class_ranges = class_ranges

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes) of images (N, 1 or 3, H, W)."""
        outputs: Tensor = self.network(self.fitted_input(images))
        return largest_of_ranges(outputs, self.class_ranges) if self.class_ranges else outputs

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


def largest_of_ranges(outputs: Tensor, ranges: Ranges) -> Tensor:
    """Return the largest output of each class, (N, classes), out of those of all labels, (N, labels).

    So the class with the largest is that of the label with the largest. The summed probabilities of a class's labels
    would not do: 118 breeds of dogs at 0.5 % each outweigh a bagel at 40 %.
    """
    return torch.stack([_largest(outputs, bounds) for bounds in ranges], 1)


def _largest(outputs: Tensor, bounds: Sequence[int]) -> Tensor:
    """Return the largest of each row's outputs (N, labels) in the ranges of one class, (N,)."""
    pairs = zip(bounds[::2], bounds[1::2], strict=True)
    return torch.stack([outputs[:, first : last + 1].amax(1) for first, last in pairs]).amax(0)


def torchvision_model(
    name: str,
    input_shape: tuple[int, ...],
    classes: int,
    folder: Path | None = None,
    *,
    weights: str,
    input_size: int,
    class_ranges: Ranges = (),
) -> FittedInput:
    """Return torchvision's network `name` with a head for `classes`, behind `FittedInput`.

    `weights` is "none", a name such as "IMAGENET1K_V1", or "sha256:..." of a file, which is looked for in `folder` and
    in torch's folder of weights (`torch.hub.get_dir()`, below it `checkpoints`). All of them are taken but the head,
    which starts anew (it is kept where the weights happen to be for as many classes). Everything trains; nothing is
    frozen. With `class_ranges` there is no head for the classes: the network keeps its own, of ImageNet's labels, the
    weights of it too.

    Raises
    ------
    DataError
        Where the weights are unknown, cannot be had, or do not read.
    ScanError
        Where they fit another network, or there are other classes than `class_ranges`.
    ValueError
        Where there is no such network, or the data are not images of one or three channels.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise ValueError(
            f"'torchvision:{name}' takes images of 1 or 3 channels; the data have shape {input_shape}."
            " Use 'mlp', or a model function of your own."
        )
    if class_ranges and len(class_ranges) != classes:
        message = f"found ranges of {len(class_ranges)} classes; the data have {classes}. Give each class its labels."
        raise ScanError("model", [Problem("model.class_ranges", message)])
    network = _network(name, IMAGENET_LABELS if class_ranges else classes)
    if weights != "none":
        what = f"weights {weights!r} for 'torchvision:{name}'"
        load_all_but_head(network, _weights(name, weights, folder), what, head_too=bool(class_ranges))
    return FittedInput(network, grey=input_shape[0] == 1, input_size=input_size, class_ranges=class_ranges)


def _network(name: str, classes: int) -> nn.Module:
    options: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in _AUXILIARY_HEADS else {}
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **options)  # type: ignore[no-any-return]


def _weights(name: str, weights: str, folder: Path | None) -> Weights:
    if weights.startswith("sha256:"):
        return of_digest(weights.removeprefix("sha256:"), folder)
    path = named_file(name, weights, folder)
    return parse(path.read_bytes(), path)


def named_file(name: str, weights: str, folder: Path | None = None) -> Path:
    """Return the file of torchvision's `weights` for its network `name`: in `folder`, in torch's, else downloaded.

    Raises
    ------
    DataError
        Where torchvision has no such weights, or they are nowhere here and cannot be downloaded.
    """
    file = file_name(name, weights)
    places = [place / file for place in (folder, torch_folder()) if place is not None]
    return next((path for path in places if path.is_file()), None) or _downloaded(_known(name, weights), places[-1])


def file_name(name: str, weights: str) -> str:
    """Return what torchvision calls the file of `weights` for its network `name`; DataError where it has none such."""
    return str(_known(name, weights).url.rpartition("/")[2])


def _known(name: str, weights: str) -> Any:
    known = torchvision.models.get_model_weights(name)
    if weights not in known.__members__:
        names = ", ".join(key for key in known.__members__ if key != "DEFAULT")
        raise DataError(f"'torchvision:{name}' has no weights {weights!r}. It has: {names}; or 'none'.")
    return known[weights]


def _downloaded(weights: Any, file: Path) -> Path:
    try:
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, http.client.HTTPException, RuntimeError) as error:  # RuntimeError: a hash that does not match
        raise DataError(
            f"The weights {weights} are not at {file} and could not be downloaded from {weights.url}: {error}."
            f" Download them where there is a network and copy them to {file}; or name a file of weights by its path:"
            f' model.weights = "{file.name}".'
        ) from error
    return file
