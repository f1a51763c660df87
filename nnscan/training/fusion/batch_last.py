"""Layers of networks in a stack for activations that lie batch last: (k, features, batch), of k networks at once.

The batch is then the long side of every product, a statistic of a channel is a sum over a row, and pooling a maximum
of whole rows. Each layer has its backward, and memory of its own that it writes to in every step: a fresh tensor of
4 MB costs 240 us of page faults. So a layer is for k rows of a stack and one size of batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnscan.models.products import multiply_and_add, multiply_each, products
from nnscan.training.fusion.stack import Named, Stack


@dataclass(frozen=True)
class Rows:
    """Of some rows of a stack, what belongs to one module: views by the names that they have there."""

    parameters: Named
    gradients: Named
    buffers: Named

    @classmethod
    def of(cls, stack: Stack, rows: slice) -> Rows:
        """Return the views of all of the network."""
        every = (stack.parameters, stack.parameter_gradients, stack.buffers)
        return cls(*({name: one[rows] for name, one in named.items()} for named in every))

    def within(self, module: str) -> Rows:
        """Return those of a part of the module."""
        start = f"{module}."
        every = (self.parameters, self.gradients, self.buffers)
        return Rows(
            *({name[len(start) :]: one for name, one in named.items() if name.startswith(start)} for named in every)
        )

    def room(self) -> Tensor:
        """Return a tensor of nothing, of the stack's type: the first operation that writes to it gives it its size."""
        return next(iter(self.parameters.values())).new_empty(0)


class Linear:
    """A linear layer, (k, inputs, n) to (k, outputs, n), and ReLU behind it if asked for."""

    def __init__(self, rows: Rows, *, relu: bool) -> None:
        self.weight, self.bias = rows.parameters["weight"], rows.parameters["bias"][..., None]
        self.weight_gradient, self.bias_gradient = rows.gradients["weight"], rows.gradients["bias"]
        self.relu = relu
        self.inputs = self.outputs = rows.room()
        self.room, self.gradient, self.input_gradient = rows.room(), rows.room(), rows.room()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what the layer gives; backward needs both."""
        self.inputs = inputs
        self.outputs = multiply_and_add(self.weight, inputs, self.bias, self.room)
        return self.outputs.clamp_min_(0) if self.relu else self.outputs

    def backward(self, gradient: Tensor) -> Tensor:
        """Write the gradients of weights and biases; return that of what they were added up to, before ReLU."""
        if self.relu:
            gradient = through_relu(gradient, self.outputs, self.gradient)
        self.write_weight_gradient(gradient)
        torch.sum(gradient, -1, out=self.bias_gradient)
        return gradient

    def write_weight_gradient(self, gradient: Tensor) -> None:
        """Write it, given the gradient of what weights and biases were added up to."""
        multiply_each(gradient, self.inputs.mT, self.weight_gradient)

    def backward_to_inputs(self, gradient: Tensor) -> Tensor:
        """Do as `backward`, but return the gradient of the inputs."""
        gradient = self.backward(gradient)
        if len(gradient) > 1:
            return multiply_each(self.weight.mT, gradient, self.input_gradient)
        return products(self.weight.mT, gradient, self.input_gradient)[0][None]  # as it comes, not copied


class Covering(Linear):
    """A convolution whose kernel covers its whole input, so that one pixel is left: a linear layer, with ReLU."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows, relu=True)
        self.kernel, self.kernel_gradient = self.weight, self.weight_gradient
        # The stack's kernels lie channels last, the activations channels first.
        self.weight = torch.empty(self.kernel.shape, dtype=self.kernel.dtype).flatten(2)
        self.product = rows.room()

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (k, outputs, n) of (k, channels x pixels, n)."""
        self.weight.view(self.kernel.shape).copy_(self.kernel)
        return super().forward(inputs)

    def write_weight_gradient(self, gradient: Tensor) -> None:
        """Write it where the kernels have it."""
        each = products(gradient, self.inputs.mT, self.product)
        for one, place in zip(each, self.kernel_gradient, strict=True):
            place.copy_(one.view(place.shape))


class Normalization:
    """Batch normalisation: of each channel of (k, channels, n) the n values are brought to mean and deviation."""

    def __init__(self, rows: Rows, module: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        assert module.momentum is not None
        self.epsilon, self.momentum = module.eps, module.momentum
        self.weight, self.bias = rows.parameters["weight"][..., None], rows.parameters["bias"][..., None]
        self.weight_gradient = rows.gradients["weight"][..., None]
        self.bias_gradient = rows.gradients["bias"][..., None]
        self.running_mean = rows.buffers["running_mean"][..., None]
        self.running_variance = rows.buffers["running_var"][..., None]
        self.batches = rows.buffers["num_batches_tracked"]
        self.inputs = self.mean = self.factor = rows.room()
        self.outputs = rows.room()

    def forward(self, inputs: Tensor, *, training: bool) -> Tensor:
        """Return what it gives: in training by the batch, which the running statistics then count, else by these.

        Raises
        ------
        ValueError
            Where a channel has one value in training, as in torch.
        """
        if not training:
            return self._by_running_statistics(inputs)
        count = inputs.shape[-1]
        if count < 2:
            raise ValueError("Batch normalisation in training needs more than one value of each channel.")
        self.inputs, self.mean = inputs, inputs.mean(-1, keepdim=True)
        centred = torch.sub(inputs, self.mean, out=self.outputs)
        # Of the centred values: a difference of two sums loses all digits where a channel is nearly constant.
        squares = torch.linalg.vector_norm(centred, dim=-1, keepdim=True).square_()
        self.running_mean.lerp_(self.mean, self.momentum)
        self.running_variance.lerp_(squares / (count - 1), self.momentum)
        self.batches.add_(1)
        self.factor = squares.div_(count).add_(self.epsilon).rsqrt_()
        return centred.mul_(self.factor * self.weight).add_(self.bias)

    def backward(self, gradient: Tensor) -> Tensor:
        """Write the gradients of weights and biases; return that of the inputs. `forward` comes before another."""
        k, channels, n = gradient.shape
        weight, mean, factor = (one.flatten() for one in (self.weight, self.mean, self.factor))
        # As of one network with the channels of all: torch takes half of the time that its parts take.
        inputs, *parameters = torch.ops.aten.native_batch_norm_backward(
            gradient.view(1, k * channels, n),
            self.inputs.view(1, k * channels, n),
            *(weight, None, None, mean, factor),
            train=True,
            eps=self.epsilon,
            output_mask=[True, True, True],
        )
        for found, place in zip(parameters, (self.weight_gradient, self.bias_gradient), strict=True):
            place.copy_(found.view(place.shape))
        return inputs.view(gradient.shape)  # type: ignore[no-any-return]

    def _by_running_statistics(self, inputs: Tensor) -> Tensor:
        scale = (self.running_variance + self.epsilon).rsqrt_().mul_(self.weight)
        return torch.mul(inputs, scale, out=self.outputs).add_(self.bias - self.running_mean * scale)


def copied(values: Tensor, room: Tensor) -> Tensor:
    """Return `values` in `room`, contiguous."""
    return room.resize_(values.shape).copy_(values)


def through_relu(gradient: Tensor, outputs: Tensor, room: Tensor) -> Tensor:
    """Return the gradient of what ReLU was given, in `room`; `outputs` is what it gave."""
    return torch.ops.aten.threshold_backward.grad_input(gradient, outputs, 0, grad_input=room)  # type: ignore[no-any-return]
