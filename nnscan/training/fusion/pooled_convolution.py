"""A small convolution with pooling and ReLU, of several networks, batch last; see `batch_last`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from nnscan.models.products import add_products, products
from nnscan.training.fusion.batch_last import Rows, through_relu

VALUES = 2**19
"""Of a product about so many values are computed at a time, with all that follows: they are still in the cache (2 MB
of float32)."""

COLUMNS = 2400
"""But not much fewer columns than this: products of few are slow."""

MAPS = 32
"""Of networks that see the same images so many maps are one product: with more it leaves the cache."""


@dataclass(frozen=True)
class _Part:
    """Pooling windows of some rows of the images that t networks see together, c windows in all."""

    seen: Tensor
    """View of the images: (4, channels, 4, rows, windows in a row, n), columns and rows of the 4x4 pixels of each."""

    patches: Tensor
    """Room for the same."""

    seen_by: Tensor
    """View of it, (2, 12 x channels, c): what left and right pixels see, the first and the last three columns."""

    kernels: Tensor
    """(2, t x 2 x outputs, 12 x channels), for upper and lower pixels, the same for left and right ones."""

    sides: Tensor
    """(2, t x 2 x outputs, c): room for left and right pixels, upper and lower; then for their gradients."""

    greater: Tensor
    """(t x 2 x outputs, c): room for the greater of both sides; then for its gradient."""

    levels: tuple[Tensor, Tensor]
    """Upper and lower of these, (t, outputs, c) each."""

    outputs: Tensor
    """(t, outputs, c): the greatest of each window; then its gradient."""

    left: Tensor
    """(t x 2 x outputs, c): 1 where the left pixel is as great as the right one, else 0."""

    upper: Tensor
    """(t, outputs, c) likewise."""

    kernel_gradient: Tensor
    """(12 x channels, t x 2 x outputs), a sum over parts and sides."""

    def forward(self, *, training: bool) -> None:
        """Write the outputs, in training also which pixels they are, of equal ones the first as in `max_pool2d`."""
        self.patches.copy_(self.seen)
        left, right = products(self.kernels, self.seen_by, self.sides)
        torch.maximum(left, right, out=self.greater)
        torch.maximum(*self.levels, out=self.outputs)
        if training:
            # A comparison into numbers takes a quarter of the time of one into bool, and a product with it of `where`.
            torch.ge(left, right, out=self.left)
            torch.ge(*self.levels, out=self.upper)

    def backward(self) -> None:
        """Add to the gradient of the kernels."""
        upper, lower = self.levels
        torch.mul(self.outputs, self.upper, out=upper)
        torch.sub(self.outputs, upper, out=lower)
        left, right = self.sides
        torch.mul(self.greater, self.left, out=left)
        torch.sub(self.greater, left, out=right)
        add_products(self.seen_by, self.sides.mT, self.kernel_gradient)


class PooledConvolution:
    """A 3x3 convolution of images, the maximum of each 2x2 pixels, and ReLU.

    Two pixels, one above the other, see 4x3 of the image. So the convolution is one product for the left pixels of all
    pooling windows and one for the right ones, with a matrix in which each kernel stands twice, shifted: of a usual
    im2col 4 / 3 the arithmetic and 4 / 9 the memory, and in all faster. Bias and ReLU come after the maximum, which is
    the same with a quarter of the work. Networks that see the same images are one product.
    """

    def __init__(self, rows: Rows, image: tuple[int, int, int]) -> None:
        self.image = image
        self.weight, self.bias = rows.parameters["weight"], rows.parameters["bias"][..., None]
        self.weight_gradient, self.bias_gradient = rows.gradients["weight"], rows.gradients["bias"]
        k, outputs, channels = self.weight.shape[:3]
        self.kernels = self.weight.new_zeros(k, 2, outputs, 3, channels, 4)
        self.images, self.outputs, self.kernel_gradient = rows.room(), rows.room(), rows.room()
        self.parts: list[_Part] = []

    def forward(self, images: Tensor, *, training: bool) -> Tensor:
        """Return (k, outputs, pooled pixels x n) of images (k, channels x pixels, n), always in the same memory.

        Or of (1, channels x pixels, n), which all networks see.
        """
        if not self.parts:
            self._make_parts(images)
        assert images.data_ptr() == self.images.data_ptr()
        for row in range(2):
            place = self.kernels[:, row, :, :, :, row : row + 3]  # k, outputs, columns, channels, rows of the kernel
            place.copy_(self.weight.permute(0, 1, 4, 2, 3))
        for part in self.parts:
            part.forward(training=training)
        return self.outputs.add_(self.bias).clamp_min_(0)

    def backward(self, gradient: Tensor) -> None:
        """Write the gradients of weights and biases, given that of the outputs; `forward` comes before another."""
        through_relu(gradient, self.outputs, self.outputs)
        torch.sum(self.outputs, -1, out=self.bias_gradient)
        self.kernel_gradient.zero_()
        for part in self.parts:
            part.backward()
        every = self.kernel_gradient  # groups, columns, channels, rows, networks of a group, 2, outputs
        upper, lower = (every[:, :, :, row : row + 3, :, row].permute(0, 4, 5, 2, 3, 1) for row in range(2))
        torch.add(upper, lower, out=self.weight_gradient.view(upper.shape))

    @torch.inference_mode(mode=False)  # else training could not write to memory that an evaluation made
    def _make_parts(self, images: Tensor) -> None:
        self.images = images
        n, (k, outputs, channels) = images.shape[2], self.weight.shape[:3]
        seen = images.view(-1, *self.image, n).unfold(2, 4, 2).unfold(3, 4, 2).permute(0, 6, 1, 5, 2, 3, 4)
        side, together = seen.shape[4], 1 if len(images) == k else _divisor(k, MAPS // outputs)
        count = ceil(side / max(1, max(COLUMNS, VALUES // (4 * together * outputs)) // (side * n)))
        bounds = [number * side // count for number in range(count + 1)]
        self.outputs.resize_(k, outputs, side**2 * n)
        self.kernel_gradient = images.new_zeros(k // together, 3, channels, 4, together, 2, outputs)
        room = images.new_empty(6 * together * outputs * ceil(side / count) * side * n)
        for group, one in enumerate(seen.expand(k // together, *seen.shape[1:])):
            self.parts += [self._part(group, slice(*some), one, room) for some in pairwise(bounds)]

    def _part(self, group: int, some: slice, seen: Tensor, room: Tensor) -> _Part:
        """Return the part of some rows of the windows; it computes in `room`, as all others do."""
        seen = seen[:, :, :, some]
        size, together, (outputs, channels) = (
            seen.shape[4:].numel(),
            self.kernel_gradient.shape[4],
            self.weight.shape[1:3],
        )
        networks, columns = slice(group * together, (group + 1) * together), slice(some.start * size, some.stop * size)
        c, maps = columns.stop - columns.start, 2 * together * outputs
        patches = room.new_empty(seen.shape)
        greater = room[2 * maps * c :][: maps * c].view(maps, c)
        upper, lower = greater.view(together, 2, outputs, c).unbind(1)
        return _Part(
            seen=seen,
            patches=patches,
            seen_by=patches.view(16 * channels, c).unfold(0, 12 * channels, 4 * channels).mT,
            kernels=self.kernels[networks].view(maps, 12 * channels).expand(2, -1, -1),
            sides=room[: 2 * maps * c].view(2, maps, c),
            greater=greater,
            levels=(upper, lower),
            outputs=self.outputs[networks, :, columns],
            left=room.new_empty(maps, c),
            upper=room.new_empty(together, outputs, c),
            kernel_gradient=self.kernel_gradient[group].view(12 * channels, maps),
        )


def _divisor(number: int, largest: int) -> int:
    """Return the greatest divisor of `number` up to `largest`, at least 1."""
    return max(one for one in range(1, max(1, min(number, largest)) + 1) if number % one == 0)
