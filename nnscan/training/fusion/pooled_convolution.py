"""A small convolution with pooling and ReLU, of several networks, batch last; see `batch_last`."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from nnscan.models.products import add_products, products
from nnscan.training.fusion.batch_last import Rows, through_relu

VALUES = 2**20
"""Of a product about so many values are computed at a time, with all that follows: they are still in the cache (4 MB
of float32; with half or twice as many 32 and 64 maps of 200 images take longer)."""

COLUMNS = 3600
"""But not much fewer columns than this: products of few are slow."""

MAPS = 32
"""Of networks that see the same images so many maps are one product: with more it leaves the cache."""


class _Part:
    """Pooling windows of some rows of the images that t networks see together, c windows in all.

    Its views are made once: to make one takes as long as to add two small maps.
    """

    def __init__(self, seen: Tensor, kernels: Tensor, outputs: Tensor, room: Tensor, kernel_gradient: Tensor) -> None:
        """Take what the part reads, and where it writes.

        Parameters
        ----------
        seen : Tensor of shape (3, channels, 4, 2, rows, windows in a row, n)
            View of the images: what left and right pixels see of each window, the first and the last three columns of
            4x4 pixels.
        kernels : Tensor of shape (t x 2 x outputs, 12 x channels)
            For upper and lower pixels, the same for left and right ones.
        outputs : Tensor of shape (t, outputs, c)
            The greatest of each window; then its gradient.
        room : Tensor
            3 x t x 2 x outputs x c values or more, of no use from one call to the next.
        kernel_gradient : Tensor of shape (12 x channels, t x 2 x outputs)
            A sum over parts.
        """
        (t, channels, c), (maps, taps) = outputs.shape, kernels.shape
        self.seen, self.outputs, self.kernels, self.kernel_gradient = seen, outputs, kernels[None], kernel_gradient
        self.patches = seen.new_empty(seen.shape)
        self.seen_by = self.patches.view(1, taps, 2 * c)
        self.seen_by_left, self.seen_by_right = self.patches.view(taps, 2, c).unbind(1)
        self.sides = room[: 2 * maps * c].view(1, maps, 2 * c)
        self.left, self.both = self.sides.view(maps, 2, c).unbind(1)
        self.upper_of_both, self.lower_of_both = self.both.view(t, 2, channels, c).unbind(1)
        self.greater = room[2 * maps * c :][: maps * c].view(maps, c)
        self.upper, self.lower = self.greater.view(t, 2, channels, c).unbind(1)
        # 1 where the left pixel is as great as the right one, and the upper as the lower; else 0
        self.is_left, self.is_upper = room.new_empty(maps, c), room.new_empty(t, channels, c)

    def forward(self, *, training: bool) -> None:
        """Write the outputs, in training also which pixels they are, of equal ones the first as in `max_pool2d`."""
        self.patches.copy_(self.seen)
        [sides] = products(self.kernels, self.seen_by, self.sides)
        left, right = sides.view(len(self.greater), 2, -1).unbind(1)
        torch.maximum(left, right, out=self.greater)
        torch.maximum(self.upper, self.lower, out=self.outputs)
        if training:
            # A comparison into numbers takes a third of the time of one into bool, and a product with it a quarter.
            torch.ge(left, right, out=self.is_left)
            torch.ge(self.upper, self.lower, out=self.is_upper)

    def backward(self) -> None:
        """Add to the gradient of the kernels.

        Left pixels take a part of the gradient of both, and right ones the rest. So the kernels' is the sum of the left
        pixels' gradients times what they see more than the right ones, and of those of both times what right ones see.
        """
        torch.mul(self.outputs, self.is_upper, out=self.upper_of_both)
        torch.sub(self.outputs, self.upper_of_both, out=self.lower_of_both)
        torch.mul(self.both, self.is_left, out=self.left)
        self.seen_by_left.sub_(self.seen_by_right)
        add_products(self.seen_by, self.sides.mT, self.kernel_gradient)


class PooledConvolution:
    """A 3x3 convolution of images, the maximum of each 2x2 pixels, and ReLU.

    Two pixels, one above the other, see 4x3 of the image. So the convolution is one product for the left and right
    pixels of all pooling windows, with a matrix in which each kernel stands twice, shifted: of a usual im2col 4 / 3 the
    arithmetic and 2 / 3 the memory, and in all faster. Bias and ReLU come after the maximum, which is the same with a
    quarter of the work. Networks that see the same images are one product.
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
        seen = images.view(-1, *self.image, n).unfold(2, 4, 2).unfold(3, 4, 2).unfold(6, 3, 1)
        seen = seen.permute(0, 7, 1, 5, 6, 2, 3, 4)  # networks, columns, channels, rows, sides, windows, n
        side, together = seen.shape[5], 1 if len(images) == k else _divisor(k, MAPS // outputs)
        count = ceil(side / max(1, max(COLUMNS, VALUES // (4 * together * outputs)) // (side * n)))
        bounds = [number * side // count for number in range(count + 1)]
        self.outputs.resize_(k, outputs, side**2 * n)
        self.kernel_gradient = images.new_zeros(k // together, 3, channels, 4, together, 2, outputs)
        room = images.new_empty(6 * together * outputs * ceil(side / count) * side * n)
        for group, one in enumerate(seen.expand(k // together, *seen.shape[1:])):
            self.parts += [self._part(group, slice(*some), one, room) for some in pairwise(bounds)]

    def _part(self, group: int, some: slice, seen: Tensor, room: Tensor) -> _Part:
        """Return the part of some rows of the windows; it computes in `room`, as all others do."""
        seen = seen[:, :, :, :, some]
        size, together = seen.shape[5:].numel(), self.kernel_gradient.shape[4]
        networks, columns = slice(group * together, (group + 1) * together), slice(some.start * size, some.stop * size)
        kernels = self.kernels[networks].flatten(3).flatten(0, 2)
        gradient = self.kernel_gradient[group].flatten(3).flatten(0, 2)
        return _Part(seen, kernels, self.outputs[networks, :, columns], room, gradient)


def _divisor(number: int, largest: int) -> int:
    """Return the greatest divisor of `number` up to `largest`, at least 1."""
    return max(one for one in range(1, max(1, min(number, largest)) + 1) if number % one == 0)
