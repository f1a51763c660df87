"""What computes the networks of a stack together."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from nnscan.tasks.outputs import Outputs


class StackedNetwork(Protocol):
    """Networks of one shape whose parameters lie in the rows of a `Stack`.

    Each is computed as if it were alone: no network sees another's examples, statistics or gradients. The rows that a
    call means are a slice of the stack; all of them get the same number of examples.
    """

    def admit(self, model: nn.Module, row: int) -> None:
        """Take note of a network that lies in a row from now on: of what is neither parameter nor buffer."""
        ...

    def forward(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return what the networks give in training; what `backward` needs is kept until the next call.

        Parameters
        ----------
        rows : slice
            Which networks: k rows of the stack, without a step.
        inputs : Tensor of shape (k, n, ...), contiguous or one batch expanded over all k
            The examples of each network, normalised, in the type of the stack.

        Returns
        -------
        Tensor of shape (k, n, classes), or a tuple or dict of such
            What the module gives, with the networks in front. It may lie in memory that the next call writes to.
        """
        ...

    def backward(self, gradients: Outputs) -> None:
        """Write the gradients of the parameters into the stack's rows, given those of what `forward` returned last.

        `gradients` are built like the outputs. What stood in these rows of `Stack.gradients` is overwritten, whole:
        a parameter that takes no part gets zero.
        """
        ...

    def evaluate(self, rows: slice, inputs: Tensor) -> Outputs:
        """Return what the networks give in evaluation mode; nothing of the stack changes.

        It may lie in memory that the next call writes to.
        """
        ...
