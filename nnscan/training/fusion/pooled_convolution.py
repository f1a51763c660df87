"""A small convolution with pooling and ReLU, of several networks, batch last; see `batch_last`."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

import torch
from torch import Tensor

from nnscan.training.fusion.batch_last import Rows, copied, through_relu

COLUMNS = 2400
"""So many columns of a product are computed at a time, with all that follows of them: they are still in the cache."""


@dataclass(frozen=True)
class _Part:
    """Some columns of one network's product: pooling windows of some places of some images, c in all."""

    kernels: Tensor
    """(2, 2 x outputs, 12 x channels), the same for left and right pixels."""

    patches: Tensor
    """(2, 12 x channels, c): what the left and the right pixels of the windows see."""

    product: Tensor
    """(2, 2 x outputs, c): the convolution, left and right, upper and lower; then its gradient."""

    sides: tuple[Tensor, ...]
    """Left and right of the product, (2, outputs, c) each."""

    greater: Tensor
    """(2, outputs, c): the greater of both sides; then its gradient."""

    levels: tuple[Tensor, ...]
    """Upper and lower of these."""

    outputs: Tensor
    """(outputs, c): the greatest of the windows."""

    gradient: Tensor
    """That of the outputs."""

    left: Tensor
    """(2, outputs, c): 1 where the left pixel is as great as the right one, else 0."""

    upper: Tensor
    """(outputs, c) likewise."""

    kernel_gradient: Tensor
    """(12 x channels, 2 x outputs), a sum over parts and sides."""

    def forward(self) -> None:
        """Write the outputs."""
        torch.bmm(self.kernels, self.patches, out=self.product)
        torch.maximum(*self.sides, out=self.greater)
        torch.maximum(*self.levels, out=self.outputs)

    def compare(self) -> None:
        """Note which pixels are the greatest, the first of equal ones as in torch's `max_pool2d`."""
        # A comparison into numbers takes a quarter of the time of one into bool, and a product with it of `where`.
        torch.ge(*self.sides, out=self.left)
        torch.ge(*self.levels, out=self.upper)

    def backward(self) -> None:
        """Add to the gradient of the kernels."""
        upper, lower = self.levels
        torch.mul(self.gradient, self.upper, out=upper)
        torch.sub(self.gradient, upper, out=lower)
        left, right = self.sides
        torch.mul(self.greater, self.left, out=left)
        torch.sub(self.greater, left, out=right)
        for patches, product in zip(self.patches, self.product, strict=True):
            self.kernel_gradient.addmm_(patches, product.T)


class PooledConvolution:
    """A 3x3 convolution of images, the maximum of each 2x2 pixels, and ReLU.

    Two pixels, one above the other, see 4x3 of the image. So the convolution is one product for the left pixels of all
    pooling windows and one for the right ones, with a matrix in which each kernel stands twice, shifted: of a usual
    im2col 4 / 3 the arithmetic and 4 / 9 the memory, and in all faster. Bias and ReLU come after the maximum, which is
    the same with a quarter of the work.
    """

    def __init__(self, rows: Rows, image: tuple[int, int, int]) -> None:
        self.image = image
        self.weight, self.bias = rows.parameters["weight"], rows.parameters["bias"][..., None]
        self.weight_gradient, self.bias_gradient = rows.gradients["weight"], rows.gradients["bias"]
        k, outputs, channels = self.weight.shape[:3]
        self.kernels = self.weight.new_zeros(k, 2, outputs, 3, channels, 4)
        self.kernel_gradient = self.weight.new_zeros(k, 3, channels, 4, 2, outputs)
        self.patches, self.outputs, self.gradient = rows.room(), rows.room(), rows.room()
        self.parts: list[_Part] = []

    def forward(self, images: Tensor, *, training: bool) -> Tensor:
        """Return (k, outputs, pooled pixels x n) of images (k, channels x pixels, n)."""
        self._cut(images)
        for row in range(2):
            place = self.kernels[:, row, :, :, :, row : row + 3]  # k, outputs, columns, channels, rows of the kernel
            place.copy_(self.weight.permute(0, 1, 4, 2, 3))
        for part in self.parts or self._make_parts():
            part.forward()
            if training:
                part.compare()
        return self.outputs.add_(self.bias).clamp_min_(0)

    def backward(self, gradient: Tensor) -> None:
        """Write the gradients of weights and biases, given that of the outputs."""
        through_relu(gradient, self.outputs, self.gradient)
        torch.sum(self.gradient, -1, out=self.bias_gradient)
        self.kernel_gradient.zero_()
        for part in self.parts:
            part.backward()
        upper, lower = (self.kernel_gradient[:, :, :, row : row + 3, row].permute(0, 4, 2, 3, 1) for row in range(2))
        torch.add(upper, lower, out=self.weight_gradient)

    def _cut(self, images: Tensor) -> None:
        """Write what the windows see, a row of each of their 4x4 pixels: (k, 4, channels, 4, places, n), columns first.

        What the left pixels see are the first 12 x channels of these rows, the right ones the last.
        """
        k, _, n = images.shape
        seen = images.view(k, *self.image, n).unfold(2, 4, 2).unfold(3, 4, 2)  # k, channels, places, n, 4, 4
        copied(seen.permute(0, 6, 1, 5, 2, 3, 4), self.patches)

    @torch.inference_mode(mode=False)  # else training could not write to memory that an evaluation made
    def _make_parts(self) -> list[_Part]:
        k, outputs = self.weight.shape[:2]
        patches = self.patches.flatten(4).flatten(1, 3)
        columns = patches.shape[-1]
        self.outputs.resize_(k, outputs, columns)
        self.gradient.resize_(k, outputs, columns)
        room, choices = patches.new_empty(6 * outputs * COLUMNS), patches.new_empty(k, 3 * outputs * columns)
        bounds = [number * columns // ceil(columns / COLUMNS) for number in range(ceil(columns / COLUMNS) + 1)]
        self.parts = [
            self._part(row, slice(start, stop), patches[row], room, choices[row])
            for row in range(k)
            for start, stop in pairwise(bounds)
        ]
        return self.parts

    def _part(self, row: int, columns: slice, patches: Tensor, room: Tensor, choices: Tensor) -> _Part:
        """Return a part that computes in `room`, as all do, and keeps its choices in `choices`."""
        outputs, count = self.weight.shape[1], columns.stop - columns.start
        pixels = room[: 6 * outputs * count].view(6, outputs, count)
        chosen = choices[3 * outputs * columns.start : 3 * outputs * columns.stop].view(3, outputs, count)
        product, greater = pixels[:4].view(2, 2, outputs, count), pixels[4:]
        return _Part(
            kernels=self.kernels[row].flatten(2).flatten(0, 1).expand(2, -1, -1),
            patches=patches[:, columns].unfold(0, len(patches) // 4 * 3, len(patches) // 4).mT,
            product=product.flatten(1, 2),
            sides=product.unbind(),
            greater=greater,
            levels=greater.unbind(),
            outputs=self.outputs[row, :, columns],
            gradient=self.gradient[row, :, columns],
            left=chosen[:2],
            upper=chosen[2],
            kernel_gradient=self.kernel_gradient[row].flatten(3).flatten(0, 2),
        )
