"""Where in an image a network sees its class: class activation maps, and Grad-CAM where a network has no such maps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnscan.errors import DataError


@dataclass(frozen=True)
class _Computed:
    """What a network computed of a batch."""

    outputs: Tensor
    """(N, C)."""

    features: tuple[Tensor, ...]
    """What each convolution gave, in the order in which they ran, (N, K, h, w)."""

    pointwise: tuple[bool, ...]
    """Of each whether its kernel is one pixel."""


def class_activation(network: nn.Module, inputs: Tensor, classes: Tensor | None = None, *, method: str = "") -> Tensor:
    """Return where in each image `network` sees a class: maps (N, H, W) in [0, 1], on the device of the inputs.

    With "cam" the map of a class is what the last convolution gives in that class's channel: of networks whose outputs
    are the means of these maps (convolution, maybe ReLU, global average pooling). With "grad-cam" it is the channels of
    the last convolution, each weighed by the mean gradient of the class's output in it. Either is cut off at 0, scaled
    so that its smallest value is 0 and its largest 1, and resized to the image (bilinear). A map that is the same
    everywhere is 0: there is no place to point at.

    Parameters
    ----------
    network : nn.Module
        Evaluated as in a test; it is left as it was.
    inputs : Tensor of shape (N, C, H, W), float32
        Images, normalised as in training.
    classes : Tensor of shape (N,), int64, optional
        Which class of each image; without it the one with the largest output.
    method : "cam", "grad-cam" or ""
        "": "cam" where the network allows it.

    Raises
    ------
    DataError
        Where the network has no convolution, is asked for "cam" and has no such maps, or gives no (N, classes).

    References
    ----------
    Zhou et al. 2016, "Learning deep features for discriminative localization", section 2. Selvaraju et al. 2017,
    "Grad-CAM", equations 1 and 2.
    """
    with torch.inference_mode(False), torch.enable_grad(), _evaluating(network):
        computed = _computed(network, inputs.detach().clone())
        chosen = computed.outputs.argmax(1) if classes is None else classes.to(inputs.device)
        averages = _averages_maps(computed)
        if method == "cam" and not averages:
            raise DataError(
                "The network's outputs are not the means of its last convolution's maps, so it has no class activation"
                ' maps. Use --method grad-cam, or train a model.name = "fully_convolutional".'
            )
        maps = _maps_of(computed, chosen) if averages and method != "grad-cam" else _grad_cam(computed, chosen)
        return _scaled(maps.detach(), inputs.shape[-2:])


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _computed(network: nn.Module, inputs: Tensor) -> _Computed:
    """Run `inputs` through `network`, and keep what its convolutions give."""
    kept: list[tuple[Tensor, bool]] = []

    def keep(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        kept.append((output, module.kernel_size == (1, 1)))
        return output.clone()  # what comes next may write into its input, as ReLU(inplace=True) does

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_hook(keep) for module in convolutions]
    try:
        outputs = network(inputs.requires_grad_())  # frozen weights alone would leave no gradients
    finally:
        for hook in hooks:
            hook.remove()
    if not kept:
        raise DataError(
            "The network has no convolution, so there are no maps of where it looks. Take one that has: model.name ="
            ' "cnn", "fully_convolutional", or one of torchvision\'s.'
        )
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        raise DataError("The network gives no single output a class and image, so there is no class to show a map of.")
    return _Computed(outputs, tuple(output for output, _ in kept), tuple(pointwise for _, pointwise in kept))


def _averages_maps(computed: _Computed) -> bool:
    """Return whether the outputs are the means of the last convolution's maps, or of what ReLU leaves of these."""
    maps, outputs = computed.features[-1], computed.outputs
    if maps.dim() != 4 or maps.shape[:2] != outputs.shape:
        return False
    means = (maps.mean((2, 3)), maps.relu().mean((2, 3)))
    return any(torch.allclose(mean, outputs, rtol=1e-4, atol=1e-5) for mean in means)


def _maps_of(computed: _Computed, classes: Tensor) -> Tensor:
    """Return the last convolution's map of each image's class, (N, h, w)."""
    maps = computed.features[-1]
    return maps[torch.arange(len(maps), device=maps.device), classes]


def _grad_cam(computed: _Computed, classes: Tensor) -> Tensor:
    """Return the channels of the last convolution, weighed by the mean gradient of the class's output, (N, h, w)."""
    features = _last(computed)
    scores = computed.outputs.gather(1, classes[:, None])
    (gradients,) = torch.autograd.grad(scores.sum(), features)  # images do not meet in evaluation mode
    return (gradients.mean((2, 3), keepdim=True) * features).sum(1)


def _last(computed: _Computed) -> Tensor:
    """Return what the last convolution gave; one around another, as shortcuts have, is passed over."""
    *before, last = computed.features
    around = before and computed.pointwise[-1] and not computed.pointwise[-2] and before[-1].shape == last.shape
    return before[-1] if around else last


def _scaled(maps: Tensor, size: torch.Size) -> Tensor:
    """Return maps (N, h, w) cut off at 0, scaled to [0, 1] each, and resized to `size`."""
    positive = maps.clamp(min=0)
    low, high = positive.amin((1, 2), keepdim=True), positive.amax((1, 2), keepdim=True)
    scaled = torch.where(high > low, (positive - low) / (high - low), 0.0)
    return nn.functional.interpolate(scaled[:, None], size=tuple(size), mode="bilinear")[:, 0]
