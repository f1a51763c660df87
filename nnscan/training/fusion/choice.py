"""How the trials of one shape are trained: how many at a time, and what computes their networks."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path

import torch
from torch import Tensor, nn

from nnscan.failure import is_out_of_memory
from nnscan.fusing import AUTO
from nnscan.results.folder import write_atomically
from nnscan.tasks.outputs import changed, tensors
from nnscan.training.fusion import vmapped
from nnscan.training.fusion.core import NetworkOf
from nnscan.training.fusion.network import StackedNetwork
from nnscan.training.fusion.pairs import StackedPairs
from nnscan.training.fusion.perceptrons import Perceptrons
from nnscan.training.fusion.stack import Stack
from nnscan.training.fusion.vmapped import Vmapped
from nnscan.training.parameters import flatten

SIZES = (1, 4, 16, 64)
"""How many networks are tried at a time: what a CPU's cache holds decides."""

WORTH = 0.95
"""A larger group has to take less than this share of a smaller one's time a network: memory is not free. So has a
network by itself of the time in the fastest group: measured for a moment, the two are not told apart better."""

BESIDE_SECONDS = 6e-4
"""What a step of pairs networks takes beside them, for however many: losses, batches, its share of an epoch's end. From
scans of 8 steps an epoch on one core of a Zen 5, four at a time against one: 0.6 to 1 ms of CPU time."""

ALONE = 0
"""In place of a size: each by itself, by `nnscan.training.loop`, is faster than any."""

TIMED_SECONDS = 0.05
"""Spent on each size, at least one step beside the first."""


@dataclass(frozen=True)
class Choice:
    """What trains the trials of one shape."""

    size: int
    """Trials at a time."""
    network_of: NetworkOf
    reason: str = ""
    """Why each is trained by itself, by `nnscan.training.loop`; "" where `network_of` computes them."""


def choose(model: nn.Module, example: Tensor, fuse: str, remembered: Path, *, exact: bool = False) -> Choice:
    """Return how networks like `model` are trained.

    Parameters
    ----------
    model : nn.Module
        On its device.
    example : Tensor of shape (n, ...)
        A batch of the size that they are trained on.
    fuse : str
        "auto", or how many at a time.
    remembered : Path
        Folder for what was measured: a shape is measured once on a kind of machine.
    exact : bool
        Whether only networks are trained together whose bits do not depend on the company.
    """
    kind = _kind(model)
    special = partial(_made, kind) if kind else None
    if exact and (example.device.type != "cpu" or Perceptrons.of(model, Stack.like(model, 1)) is None):
        return Choice(1, Vmapped.of, "resources.deterministic: together its bits would depend on the company")
    if fuse != AUTO:
        reason = "" if special else vmapped.refusal(model, example)
        return Choice(1 if reason else int(fuse), special or Vmapped.of, reason)
    if special is None:
        return Choice(1, Vmapped.of, "this network is as fast alone, so far as nnscan knows; --fuse N tries it")
    # Perceptrons take the same steps alone, with more calls.
    measure = partial(_fastest if kind is Perceptrons else _fastest_or_alone, model, example, special)
    fastest = _remembered(remembered, model, example, measure)
    if fastest == ALONE:
        return Choice(1, special, "alone this network takes less time, as measured; --fuse N trains N together")
    # It may have been measured where more memory was free.
    return Choice(max((size for size in SIZES if size <= fastest and _fits(model, example, size)), default=1), special)


def _kind(model: nn.Module) -> type[Perceptrons] | type[StackedPairs] | None:
    """Return the rule that networks like `model` have of their own."""
    for kind in (Perceptrons, StackedPairs):
        if kind.of(model, Stack.like(model, 1)) is not None:
            return kind
    return None


def _made(kind: type[Perceptrons] | type[StackedPairs], model: nn.Module, stack: Stack) -> StackedNetwork:
    made = kind.of(model, stack)
    assert made is not None  # it was when it was chosen
    return made


def _fastest(model: nn.Module, example: Tensor, network_of: NetworkOf) -> int:
    """Return the size whose steps take least a network."""
    return _best(model, example, network_of, 0.0)[0]


def _fastest_or_alone(model: nn.Module, example: Tensor, network_of: NetworkOf) -> int:
    """Return the same; ALONE where a network by itself takes less."""
    size, seconds = _best(model, example, network_of, BESIDE_SECONDS)
    return ALONE if _seconds_alone(model, example) + BESIDE_SECONDS < seconds * WORTH else size


def _best(model: nn.Module, example: Tensor, network_of: NetworkOf, beside: float) -> tuple[int, float]:
    """Return the size whose steps take least a network, and the seconds of a network, with `beside` for each step."""
    best, least = 1, float("inf")
    for size in SIZES:
        if not _fits(model, example, size):
            break
        try:
            seconds = (_seconds(model, example, network_of, size) + beside) / size
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if seconds >= least * WORTH:
            break  # a larger one will not be faster, and would take long to measure
        best, least = size, seconds
    return best, least


def _fits(model: nn.Module, example: Tensor, size: int) -> bool:
    """Return whether a group takes no more than a quarter of the memory that is free."""
    parameters = sum(one.numel() for one in model.parameters())
    needed = size * 4 * (4 * parameters + 64 * example.numel())  # values, gradients, moments; activations by guess
    return needed <= _free_bytes(example.device) // 4


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    return 2**32


def _seconds(model: nn.Module, example: Tensor, network_of: NetworkOf, size: int) -> float:
    """Return the seconds of a step; in place of loss and optimiser is what reads as much memory."""
    stack = Stack.like(model, size)
    network, rows = network_of(model, stack), slice(0, size)
    inputs = example.expand(size, *example.shape).contiguous()

    def step() -> None:
        network.backward(changed(network.forward(rows, inputs), torch.ones_like))
        stack.values.add_(stack.gradients, alpha=0.0)

    return _least_seconds(step, example.device)


def _seconds_alone(model: nn.Module, example: Tensor) -> float:
    """Return the seconds of such a step as `nnscan.training.loop` takes it."""
    alone = deepcopy(model).train()
    parameters = flatten(alone)

    def step() -> None:
        parameters.zero_gradients()
        outputs = tensors(alone(example))
        torch.autograd.backward(outputs, [torch.ones_like(one) for one in outputs])
        for values in parameters.values:
            assert values.grad is not None
            values.add_(values.grad, alpha=0.0)

    return _least_seconds(step, example.device)


def _least_seconds(step: Callable[[], None], device: torch.device) -> float:
    """Return the seconds of a step, the least of some.

    On the CPU they are those of this process: the machine may be busy with others.
    """
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    least, ends = float("inf"), clock() + TIMED_SECONDS
    for number in range(1000):
        started = clock()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = clock()
        if number:  # the first makes the memory
            least = min(least, now - started)
        if number and now > ends:
            break
    return least


def _remembered(folder: Path, model: nn.Module, example: Tensor, measure: Callable[[], int]) -> int:
    """Return what was measured of this shape on such a machine before; else measure it, and leave a note."""
    shape = [list(example.shape), str(example.device), platform.machine(), _processor(), torch.__version__]
    text = json.dumps([str(model), *shape, torch.get_num_threads()])
    path = folder / f"{blake2b(text.encode(), digest_size=12).hexdigest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads(path.read_text())["size"])
    size = measure()
    with suppress(OSError):  # the next process measures again
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"size": size}).encode())
    return size


def _processor() -> str:
    """Return the name of the CPU; on Linux `platform.processor` often tells none."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith("model name"))
    return platform.processor()
