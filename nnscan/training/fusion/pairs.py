"""The networks of `models/pairs.py`, several of a stack trained together on the CPU, with their own backward.

About four at a time are best. us of CPU time of a step of one network, without its loss, of batches of 100 with batch
normalisation: alone (as `training.loop` does it) / four here, each with its own batch. One thread of a busy Zen 5, the
least of 7 rounds that took turns:

channels, channels, hidden | (8, 8, 64) | (16, 16, 128) | (32, 32, 64) | (64, 64, 256)
siamese                    | 1336 / 514 | 1557 / 1115   | 2251 / 1879  | 5599 / 4342
siamese, with shortcuts    | 1969 / 1047 | 2975 / 1892  | 5780 / 3405  | 11419 / 7277
pair                       | 813 / 360  | 902 / 556     | 1214 / 1075  | 2580 / 2578
pair, with shortcuts       | 1467 / 684 | 2179 / 1474   | 4020 / 2891  | 8631 / 5521

What a step takes beside the network is shared by four, too: `choice.BESIDE_SECONDS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from nnscan.models.pairs import Backbone, Block, Siamese
from nnscan.tasks.outputs import Outputs
from nnscan.training.fusion.batch_last import (
    Covering,
    Linear,
    Normalization,
    Rows,
    copied,
    through_relu,
)
from nnscan.training.fusion.pooled_convolution import PooledConvolution
from nnscan.training.fusion.stack import Stack

KEPT = 8
"""Sizes of batch, or sets of rows, whose memory is kept: training and evaluation have a whole and a last batch each."""

_PARTS = (
    *(nn.Conv2d, nn.MaxPool2d, nn.BatchNorm1d, nn.BatchNorm2d, nn.Linear, nn.Identity),
    *(nn.Sequential, Block, Backbone, Siamese),
)


class StackedPairs:
    """Networks that `pair` or `siamese` built, in the rows of a stack; see `StackedNetwork`."""

    def __init__(self, model: nn.Module, stack: Stack) -> None:
        self.model, self.stack = model, stack
        self._kept: dict[tuple[int, ...], _Network] = {}
        self._last: _Network | None = None

    @classmethod
    def of(cls, model: nn.Module, stack: Stack) -> StackedPairs | None:
        """Return the networks like `model` that lie in `stack`; None where it is another than those of this module.

        Such as one with a part that is of a class of its own, with frozen parameters, or on another device.
        """
        trained = stack.parameters.keys() == dict(model.named_parameters()).keys()
        known = _is_known(model) and trained and stack.values.device.type == "cpu"
        return cls(model, stack) if known else None

    def admit(self, model: nn.Module, row: int) -> None:
        """Take note of nothing: networks of one shape differ in their parameters and buffers alone."""

    def forward(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return what the networks give for inputs (k, n, 2, H, H) in training.

        With one batch expanded over all networks their convolutions are one product.
        """
        self._last = self._network(rows, inputs)
        return self._last.forward(_once(inputs), training=True)

    def backward(self, gradients: Outputs) -> None:
        """Write the gradients of the parameters, given those of what `forward` returned; once for each `forward`."""
        assert self._last is not None
        self._last.backward(gradients)

    def evaluate(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return what the networks give in evaluation mode."""
        return self._network(rows, inputs).forward(_once(inputs), training=False)

    def _network(self, rows: slice, inputs: Tensor) -> _Network:
        start, stop, _ = rows.indices(len(self.stack.values))
        shared = stop - start > 1 and inputs.stride(0) == 0
        key = (start, stop, shared, *inputs.shape[1:])
        if key not in self._kept:
            if len(self._kept) == KEPT:
                del self._kept[next(iter(self._kept))]
            with torch.inference_mode(False):  # else training could not write to memory that an evaluation made
                self._kept[key] = self._made(Rows.of(self.stack, rows), inputs.shape[-1])
        return self._kept[key]

    def _made(self, rows: Rows, side: int) -> _Network:
        if isinstance(self.model, Siamese):
            return _Siamese(rows, self.model, side)
        assert isinstance(self.model, nn.Sequential)
        return _Pair(rows, self.model, side)


def _once(inputs: Tensor) -> Tensor:
    """Return inputs (k, n, ...), or (1, n, ...) where all networks see the same."""
    return inputs[:1] if inputs.stride(0) == 0 else inputs


def _is_known(model: nn.Module) -> bool:
    if type(model) is nn.Sequential:
        shaped = [type(part) for part in model] == [Backbone, nn.Linear]
    else:
        shaped = type(model) is Siamese
    return shaped and all(type(module) in _PARTS for module in model.modules())


class _Network(Protocol):
    """Some rows of a stack, for one size of batch."""

    def forward(self, inputs: Tensor, *, training: bool) -> Outputs: ...

    def backward(self, gradients: Outputs) -> None: ...


class _Pair:
    """Both images of a pair are channels of one."""

    def __init__(self, rows: Rows, model: nn.Sequential, side: int) -> None:
        backbone = model[0]
        assert isinstance(backbone, Backbone)
        self.backbone = _Backbone(rows.within("0"), backbone, (2, side, side))
        self.last = Linear(rows.within("1"), relu=False)
        self.images, self.logits, self.gradient = rows.room(), rows.room(), rows.room()

    def forward(self, inputs: Tensor, *, training: bool) -> Tensor:
        """Return logits (k, n, classes)."""
        images = copied(inputs.flatten(2).mT, self.images)
        return copied(self.last.forward(self.backbone.forward(images, training=training)).mT, self.logits)

    def backward(self, gradients: Outputs) -> None:
        """Write all gradients."""
        assert isinstance(gradients, Tensor)
        self.backbone.backward(self.last.backward_to_inputs(copied(gradients.mT, self.gradient)))


class _Siamese:
    """The images of all pairs are one batch, both of a pair side by side."""

    def __init__(self, rows: Rows, model: Siamese, side: int) -> None:
        self.backbone = _Backbone(rows.within("backbone"), model.backbone, (1, side, side))
        self.digits, self.head = Linear(rows.within("digits"), relu=False), Linear(rows.within("head"), relu=False)
        self.images, self.logits, self.read, self.seen = (rows.room() for _ in range(4))
        self.head_gradient, self.read_gradient = rows.room(), rows.room()

    def forward(self, inputs: Tensor, *, training: bool) -> dict[str, Tensor]:
        """Return logits `head` (k, n, classes), `first` and `second` (k, n, 10)."""
        images = copied(inputs.flatten(3).flatten(1, 2).mT, self.images)
        digits = self.digits.forward(self.backbone.forward(images, training=training))
        copied(_by_image(digits).transpose(2, 3), self.read)  # k, 2, n, 10
        torch.clamp_min(_by_image(digits), 0, out=self.seen)
        head = copied(self.head.forward(self.seen.flatten(1, 2)).mT, self.logits)
        return {"head": head, "first": self.read[:, 0], "second": self.read[:, 1]}

    def backward(self, gradients: Outputs) -> None:
        """Write all gradients."""
        assert isinstance(gradients, Mapping)
        seen = self.head.backward_to_inputs(copied(gradients["head"].mT, self.head_gradient)).view(self.seen.shape)
        through_relu(seen, self.seen, self.seen)
        digits = self.read_gradient.resize_(self.digits.outputs.shape)
        for image, name in enumerate(("first", "second")):
            torch.add(self.seen[:, image], gradients[name].mT, out=_by_image(digits)[:, image])
        self.backbone.backward(self.digits.backward_to_inputs(digits))


def _by_image(digits: Tensor) -> Tensor:
    """Return a view (k, 2, 10, n) of (k, 10, n x 2)."""
    k, classes, images = digits.shape
    return digits.view(k, classes, images // 2, 2).permute(0, 3, 1, 2)


class _Backbone:
    """Two blocks and a dense layer."""

    def __init__(self, rows: Rows, model: Backbone, image: tuple[int, int, int]) -> None:
        first, second = rows.within("first"), rows.within("second")
        self.first = PooledConvolution(first.within("convolution"), image)
        self.behind_first = _Ending(first, model.first)
        self.second = Covering(second.within("convolution"))
        self.behind_second = _Ending(second, model.second)
        self.dense = Linear(rows.within("dense"), relu=True)
        self.normalization = _normalization(rows, model.normalization)

    def forward(self, images: Tensor, *, training: bool) -> Tensor:
        """Return (k, hidden units, n) of images (k, channels x pixels, n), or (1, ...) that all networks see."""
        features = self.behind_first.forward(self.first.forward(images, training=training), images, training=training)
        features = self.behind_second.forward(self.second.forward(features), images, training=training)
        features = self.dense.forward(features)
        return self.normalization.forward(features, training=training) if self.normalization else features

    def backward(self, gradient: Tensor) -> None:
        """Write all gradients, given that of what `forward` returned."""
        if self.normalization:
            gradient = self.normalization.backward(gradient)
        gradient = self.dense.backward_to_inputs(gradient)
        gradient = self.second.backward_to_inputs(self.behind_second.backward(gradient))
        self.first.backward(self.behind_first.backward(gradient))


class _Ending:
    """What a block does behind its convolution: normalisation, and a shortcut from the images, both if it has them."""

    def __init__(self, rows: Rows, model: Block) -> None:
        self.normalization = _normalization(rows, model.normalization)
        self.shortcut = Linear(rows.within("shortcut"), relu=True) if model.shortcut is not None else None
        self.sum, self.shape = rows.room(), torch.Size()

    def forward(self, features: Tensor, images: Tensor, *, training: bool) -> Tensor:
        """Return (k, channels x pixels, n) of features (k, channels, pixels x n)."""
        self.shape = features.shape
        if self.normalization:
            features = self.normalization.forward(features, training=training)
        features = features.view(len(features), -1, images.shape[-1])
        if not self.shortcut:
            return features
        return torch.add(features, self.shortcut.forward(images.expand(len(features), -1, -1)), out=self.sum)

    def backward(self, gradient: Tensor) -> Tensor:
        """Write its gradients; return that of the features."""
        if self.shortcut:
            self.shortcut.backward(gradient)
        gradient = gradient.view(self.shape)
        return self.normalization.backward(gradient) if self.normalization else gradient


def _normalization(rows: Rows, module: nn.Module) -> Normalization | None:
    if not isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return None
    return Normalization(rows.within("normalization"), module)
