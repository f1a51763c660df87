"""The processes of a trial over torch.distributed: gloo between CPUs, NCCL between GPUs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.distributed.distributed_c10d import Store
from torch.nn.parallel import DistributedDataParallel

from nnscan.tasks.outputs import Outputs, filled, tensors
from nnscan.training.group import share


def together(store: Store, rank: int, size: int, *, device: str, timeout: timedelta) -> Together:
    """Return the group of `size` processes that all call this, each with its own `rank`.

    Parameters
    ----------
    store : torch.distributed.Store
        Where the ranks find each other; keys of an earlier group must not stand in it (`PrefixStore`).
    device : str
        Of this rank: "cpu", or with NCCL a GPU that no other rank of this node has, "cuda:1".
    timeout : timedelta
        How long a rank waits for the others before it raises.

    Raises
    ------
    RuntimeError
        Where another rank does not come, here or in any later call: the group is of no use then.
    """
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        control = dist.new_group(backend="gloo", timeout=timeout)
    except RuntimeError:
        dist.destroy_process_group()  # a process has one at a time: the next attempt would be refused
        raise
    assert isinstance(control, dist.ProcessGroup)
    return Together(rank, size, control)


FEW = 4096
"""So many values and fewer are added up by each rank for itself. gloo's all-reduce sends a small message in many parts:
of 65 values it takes 1.3 times as long as its all-gather between 2 processes, 1.7 times between 4."""


@dataclass
class Together:
    """A rank among others. Tensors travel the way their device has: NCCL on a GPU, gloo on the CPU."""

    rank: int
    size: int
    control: dist.ProcessGroup
    """Of questions and small things on the CPU."""

    asked: tuple[Tensor, Any] | None = None
    """What `soon` was asked last: the answer, once its all-reduce is done, and what waits for that."""

    def share(self, count: int) -> slice:
        """Return the part of `count` examples in order that is this rank's."""
        return share(self.rank, self.size, count)

    def add(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over the ranks, the same bits on each: in one order, or added up on one alone."""
        if not values.is_cuda and values.numel() <= FEW:
            return self.stack(values).sum(0, dtype=values.dtype)
        summed = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(summed, group=self._between(values))
        return summed

    def agree(self, flag: bool) -> bool:
        """Return whether any rank says so; waits for all."""
        asked = torch.tensor([int(flag)])
        dist.all_reduce(asked, op=dist.ReduceOp.MAX, group=self.control)
        return bool(asked.item())

    def soon(self, flag: bool) -> bool:
        """Return, on every rank alike, whether any said so at the call before; False at the first."""
        answer = self._answer()
        asked = torch.tensor([int(flag)])
        self.asked = asked, dist.all_reduce(asked, op=dist.ReduceOp.MAX, group=self.control, async_op=True)
        return answer

    def stack(self, values: Tensor) -> Tensor:
        """Return the `values` of all ranks, which have one shape: (size, *shape), in the order of the ranks."""
        rows = values.new_empty((self.size, *values.shape))
        dist.all_gather(list(rows.unbind()), values.contiguous(), group=self._between(values))
        return rows

    def gather(self, rows: Tensor) -> Tensor:
        """Return the rows of all ranks in their order, one behind the other along dimension 0."""
        counts = self.stack(torch.tensor(len(rows))).tolist()
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        return torch.cat([part[:count] for part, count in zip(self.stack(padded), counts, strict=True)])

    def tell(self, content: bytes) -> bytes:
        """Return, on every rank, the `content` of rank 0."""
        length = torch.tensor(len(content))
        dist.broadcast(length, 0, group=self.control)
        told = torch.zeros(int(length), dtype=torch.uint8)
        if self.rank == 0 and content:
            told.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
        dist.broadcast(told, 0, group=self.control)
        return told.numpy().tobytes()

    def parallel(self, model: nn.Module) -> nn.Module:
        """Return `model` such that a backward pass leaves the mean of the ranks' gradients in its parameters.

        All ranks then have the parameters of rank 0. Buffers stay each rank's own: the statistics of batch
        normalisation come out alike (`nnscan.training.batch_norm`).
        """
        options: dict[str, Any] = {_BUFFERS: False}
        parallel = DistributedDataParallel(_Whole(model), **options)
        _settle(parallel)
        return parallel

    def close(self) -> None:
        """Leave the group, once what `soon` was asked last is known; what `parallel` gave should be gone by then."""
        with suppress(RuntimeError):  # a rank has died meanwhile
            self._answer()
        dist.destroy_process_group()
        # gloo's threads end with the last reference. One that lives when the interpreter ends may abort the process
        # (torch 2.15: it lets go of a tensor, for which it waits for the interpreter's lock).
        del self.control

    def _answer(self) -> bool:
        if self.asked is None:
            return False
        (answer, work), self.asked = self.asked, None
        work.wait()
        return bool(answer.item())

    def _between(self, values: Tensor) -> dist.ProcessGroup | None:
        """Return the group that carries `values`: torch's default one has no way for CPU tensors where it is NCCL's."""
        return None if values.is_cuda else self.control


_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"
)
"""What turns off that rank 0's buffers travel before every step: torch 2.15 warns of the older name."""


class _Whole(nn.Module):
    """A network all of whose parameters take part in each of its passes.

    DistributedDataParallel waits for the gradient of every parameter. `find_unused_parameters`, its own remedy where a
    step uses only some, costs a walk through the graph and one more message a step.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.trained = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def forward(self, inputs: Tensor | None) -> Outputs:
        """Return the outputs of `inputs`; without any, a zero that depends on each parameter, in order."""
        if inputs is None:
            return sum((parameter.sum() * 0 for parameter in self.trained), torch.zeros(()))
        outputs = self.network(inputs)
        given = tensors(outputs)
        return filled(outputs, _Touch.apply(len(given), *given, *self.trained))


class _Touch(Function):
    """Gives back its first `count` tensors; the others get no gradient, and autograd comes by each all the same."""

    @staticmethod
    def forward(ctx: Any, count: int, *given: Tensor) -> tuple[Tensor, ...]:
        ctx.parameters = len(given) - count
        return tuple(outputs.view_as(outputs) for outputs in given[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, *gradients, *[None] * ctx.parameters


def _settle(parallel: DistributedDataParallel) -> None:
    """Make `parallel` put its gradients into messages as it will in every step.

    It rearranges them after its first pass, as they came; where a gradient lies in a message decides in which order the
    ranks' are added up. Without this, the first step after a resumption would differ in the last bits.
    """
    parallel(None).backward()
