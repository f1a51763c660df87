"""Inputs of mean 0 and standard deviation 1, per channel or all together: of the training part, or of ImageNet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from nnscan.data.packing import Shapes, unpack
from nnscan.errors import DataError

CHUNK_EXAMPLES = 2048
"""Examples read at a time: the images may be mapped from disk and larger than memory."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]: what all of torchvision's ImageNet weights were trained with
(`torchvision.transforms._presets.ImageClassification`)."""


@dataclass(frozen=True)
class Normalization:
    """What turns stored values x into a network's inputs: x * scale + shift, per channel."""

    scale: tuple[float, ...]
    """One factor a channel (dimension 1 of the data); it also takes uint8 images from 0..255 to their scale."""

    shift: tuple[float, ...]
    """One summand a channel, added last."""

    def tensors(self, dimensions: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return scale and shift, float32 on `device`, shaped to broadcast over data of `dimensions` (N, C, ...)."""
        shape = (-1, *[1] * (dimensions - 2))
        return (
            torch.tensor(self.scale, dtype=torch.float32, device=device).view(shape),
            torch.tensor(self.shift, dtype=torch.float32, device=device).view(shape),
        )

    def as_json(self) -> dict[str, list[float]]:
        """Return the two lists as JSON holds them; `Normalization.from_json` reads them."""
        return {"scale": list(self.scale), "shift": list(self.shift)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Normalization:
        """Return what `as_json` gave."""
        return cls(tuple(values["scale"]), tuple(values["shift"]))


def of(name: str, images: Tensor, indices: Tensor, shapes: Shapes = ()) -> Normalization:
    """Return the normalisation `name` of a data set.

    Parameters
    ----------
    name : "standard", "global", "none" or "imagenet"
        `data.normalization`. "standard": mean 0 and standard deviation 1 per channel over the examples `indices`, exact
        for uint8 (integer sums); a channel that never varies becomes 0. "global": one mean and deviation for all
        channels. "none": uint8 images as [0, 1], features as they are. "imagenet": the mean and deviation of ImageNet's
        images in [0, 1] taken away, of three channels.
    images : Tensor of shape (N, C, ...), uint8 or float32
        Images or features; dimension 1 is the channel.
    indices : Tensor of shape (n,), int64
        The training part.
    shapes : tuple
        Where `images` are several inputs packed, (N, features), the shape of each: each is normalised for itself.

    Raises
    ------
    DataError
        With "imagenet", where there are not three channels.
    """
    if shapes:
        return _side_by_side([_of_one(name, part, indices) for part in unpack(images, shapes)], shapes)
    return _of_one(name, images, indices)


def _side_by_side(parts: Sequence[Normalization], shapes: Shapes) -> Normalization:
    """Return the normalisation of packed inputs, a factor a feature, out of those of the inputs, a factor a channel."""
    repeats = [math.prod(shape[1:]) for shape in shapes]
    return Normalization(
        tuple(chain.from_iterable(_repeated(part.scale, count) for part, count in zip(parts, repeats, strict=True))),
        tuple(chain.from_iterable(_repeated(part.shift, count) for part, count in zip(parts, repeats, strict=True))),
    )


def _repeated(values: Sequence[float], count: int) -> list[float]:
    return [value for value in values for _ in range(count)]


def _of_one(name: str, images: Tensor, indices: Tensor) -> Normalization:
    whole = 255.0 if images.dtype == torch.uint8 else 1.0
    channels = images.shape[1]
    if name == "none":
        return Normalization((1 / whole,) * channels, (0.0,) * channels)
    if name == "imagenet":
        return _of_imagenet(whole, channels)
    mean, deviation = _moments_of_all(images, indices) if name == "global" else _moments(images, indices)
    deviation = [value if value > 0 else whole for value in deviation]
    return _of_moments(mean, deviation)


def _of_imagenet(whole: float, channels: int) -> Normalization:
    if channels != len(IMAGENET_MEAN):
        raise DataError(
            f'data.normalization = "imagenet" is for images of three channels; the data have {channels}. Write'
            ' "standard", or have color images: data.color = "rgb".'
        )
    return _of_moments([value * whole for value in IMAGENET_MEAN], [value * whole for value in IMAGENET_DEVIATION])


def _of_moments(mean: Sequence[float], deviation: Sequence[float]) -> Normalization:
    return Normalization(
        tuple(1 / value for value in deviation),
        tuple(-middle / value for middle, value in zip(mean, deviation, strict=True)),
    )


def _moments(images: Tensor, indices: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and (population) standard deviation of each channel over the examples `indices`."""
    if images.dtype == torch.uint8:
        return _moments_of_counts(_value_counts(images, indices))
    return _moments_of_features(images, indices)


def _moments_of_all(images: Tensor, indices: Tensor) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation over all channels, as often as there are channels."""
    if images.dtype == torch.uint8:
        mean, deviation = _moments_of_counts(_value_counts(images, indices).sum(0, keepdim=True))
    else:
        mean, deviation = _moments_of_features(images.flatten(1)[:, None], indices)
    return mean * images.shape[1], deviation * images.shape[1]


def _value_counts(images: Tensor, indices: Tensor) -> Tensor:
    """Return how often each channel holds each of the 256 values: (C, 256), int64.

    Half the time of summing squares as integers, and as exact.
    """
    counts = torch.zeros(images.shape[1], 256, dtype=torch.int64, device=images.device)
    for chunk in torch.split(indices.to(images.device), CHUNK_EXAMPLES):
        for channel, values in enumerate(images[chunk].unbind(1)):
            counts[channel] += torch.bincount(values.flatten(), minlength=256)
    return counts.cpu()


def _moments_of_counts(counts: Tensor) -> tuple[list[float], list[float]]:
    values = torch.arange(256)
    total = counts.sum(1).tolist()
    first = (counts * values).sum(1).tolist()
    second = (counts * values**2).sum(1).tolist()
    # Python's integers: the numerator of the variance, total * second - first^2, passes 2^63 at 400 million pixels.
    variances = [(n * s - f * f) / (n * n) for n, f, s in zip(total, first, second, strict=True)]
    return [f / n for n, f in zip(total, first, strict=True)], [math.sqrt(value) for value in variances]


def _moments_of_features(features: Tensor, indices: Tensor) -> tuple[list[float], list[float]]:
    """Two passes in float64: the one-pass formula loses every digit where the mean is large."""
    chunks = torch.split(indices.to(features.device), CHUNK_EXAMPLES)
    values_each = len(indices) * math.prod(features.shape[2:])
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    for chunk in chunks:
        total += _channels(features[chunk]).sum(1)
    mean = total / values_each
    squares = torch.zeros_like(total)
    for chunk in chunks:
        squares += (_channels(features[chunk]) - mean[:, None]).square_().sum(1)
    deviation = (squares / values_each).sqrt()
    deviation[deviation < 1e-12 * mean.abs()] = 0.0  # a constant whose mean float64 rounds
    return mean.tolist(), deviation.tolist()


def _channels(features: Tensor) -> Tensor:
    """Return (N, C, ...) as (C, N * ...), float64."""
    return features.double().transpose(0, 1).flatten(1)
