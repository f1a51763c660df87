"""The optimisers of several networks: each its own settings and state, in rows beside the parameters.

torch's own kernels take the step, as they do for a network alone; networks whose steps are equal share a call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from nnscan.training.fusion.stack import Stack

aten = torch.ops.aten

MOMENTS = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq")}
"""What torch's optimisers keep beside each parameter, by their names there."""

Kernel = Callable[..., None]
"""Takes the next step of some rows, given `lr`."""


@dataclass(frozen=True)
class StackedOptimizer:
    """The moments of the networks in a stack."""

    stack: Stack
    name: str
    moments: Mapping[str, Tensor]
    """(rows, P) each."""
    steps: Tensor
    """(rows,) float32: the steps that each has taken, with the one that is being taken."""

    @classmethod
    def of(cls, settings: Mapping[str, Any], stack: Stack) -> StackedOptimizer:
        """Return that of the table `optimizer`, whose name and kind of momentum all networks share."""
        name = settings["name"]
        names = MOMENTS[name] if name != "sgd" or settings["momentum"] else ()
        moments = {moment: torch.zeros_like(stack.values) for moment in names}
        return cls(stack, name, moments, torch.zeros(len(stack.values), device=stack.values.device))

    def admit(self, optimizer: Optimizer, row: int) -> None:
        """Let torch's `optimizer` of one flat parameter go on from a row of the stack, its state from theirs."""
        [parameter] = optimizer.param_groups[0]["params"]
        parameter.data, parameter.grad = self.stack.values[row], self.stack.gradients[row]
        rows = {name: moments[row] for name, moments in self.moments.items()}
        if self.name != "sgd":
            rows["step"] = self.steps[row]
        state = optimizer.state[parameter]
        for name, place in rows.items():
            before = state.get(name)  # None before the first step, of which all begins at zero
            place.copy_(torch.zeros(()) if before is None else before)
            state[name] = place

    def prepared(self, rows: slice, settings: Mapping[str, Any]) -> Kernel:
        """Return what takes the next step of the networks in these rows, which all have these settings.

        `steps` must have been counted up. The kernels ignore strides, and write wrong weights from a gradient that is
        transposed: rows are contiguous.
        """
        lists = [[values[rows]] for values in (self.stack.values, self.stack.gradients, *self.moments.values())]
        common = {"weight_decay": settings["weight_decay"], "maximize": False}
        if self.name == "sgd":
            # A buffer of zeros makes the first step what torch's is: the buffer becomes the gradient.
            more = {"momentum": settings["momentum"], "nesterov": settings["nesterov"], "is_first_step": False}
            none: list[list[Tensor]] = [] if self.moments else [[]]
            return partial(aten._fused_sgd_, *lists, *none, **common, **more, dampening=0.0)
        kernel = {"adam": aten._fused_adam_, "adamw": aten._fused_adamw_}[self.name]
        more = {**dict(zip(("beta1", "beta2"), settings["betas"], strict=True)), "eps": settings["epsilon"]}
        return partial(kernel, *lists, [], [self.steps[rows.start]], **common, **more, amsgrad=False)
