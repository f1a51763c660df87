"""Batches out of data that lies in memory: the order of an epoch, and rows gathered into buffers that are kept.

order = epoch_order(len(training), seed32(seed, Purpose.ORDER, replicate=replicate, fold=fold, epoch=epoch))
for indices in training[order].split(batch_size):
    inputs = take(images, indices, buffers)  # buffers = allocate(images, normalization, batch_size, device=device)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from nnscan.data import augmentation
from nnscan.data.augmentation import Draws
from nnscan.data.normalization import Normalization

RESIDENT_FRACTION = 0.5
"""Share of a device's free memory that data may take; the rest is the network's."""


@dataclass(frozen=True)
class Buffers:
    """Memory that every batch of a training uses again: new tensors a step cost more than small networks do."""

    raw: Tensor
    """Rows as stored, (batch, ...), where the data lies."""

    values: Tensor
    """The network's inputs, (batch, ...) float32, on its device."""

    scale: Tensor
    """Factor of the normalisation, on the network's device."""

    shift: Tensor
    """Summand likewise."""


def allocate(
    images: Tensor,
    normalization: Normalization,
    batch_size: int,
    *,
    device: torch.device | str = "cpu",
    channels_last: bool = False,
) -> Buffers:
    """Return buffers for batches of `batch_size` and fewer rows of `images`, to be fed to a network on `device`.

    `channels_last` lays images (N, C, H, W) out as convolutions on CUDA and CPU prefer them; shapes stay.
    """
    shape = (batch_size, *images.shape[1:])
    layout = torch.channels_last if channels_last and len(shape) == 4 else torch.contiguous_format
    scale, shift = normalization.tensors(images.dim(), device)
    return Buffers(
        raw=torch.empty(shape, dtype=images.dtype, device=images.device),
        values=torch.empty(shape, dtype=torch.float32, device=device, memory_format=layout),
        scale=scale,
        shift=shift,
    )


def take(images: Tensor, indices: Tensor, buffers: Buffers, draws: Draws | None = None) -> Tensor:
    """Return the rows `indices` of `images` as a network's inputs: augmented as drawn, normalised, float32.

    The result lies in `buffers` and is overwritten by the next call.

    Parameters
    ----------
    images : Tensor of shape (N, ...), uint8 or float32
        The data; may be mapped from disk.
    indices : Tensor of shape (n,), int64
        At most as many as the buffers hold, on the device of `images`.
    buffers : Buffers
        Made for `images` by `allocate`.
    draws : Draws, optional
        Augmentations of the n images, on the network's device.
    """
    raw = buffers.raw[: len(indices)]
    torch.index_select(images, 0, indices, out=raw)
    # Bytes travel and become floats on the device: one copy for both would convert first and move four times as much.
    rows = raw.to(buffers.values.device)
    if draws is not None:
        rows = augmentation.apply(rows, draws)
    return buffers.values[: len(indices)].copy_(rows).mul_(buffers.scale).add_(buffers.shift)


@lru_cache(maxsize=1)  # trials that are trained together have the same one
def epoch_order(count: int, seed: int) -> Tensor:
    """Return a permutation of [0, count), int64, drawn on the CPU: an epoch's order, of all processes together.

    Not to be written to: whoever asks next may get the same tensor.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def resident(images: Tensor, device: torch.device | str) -> Tensor:
    """Return `images` on `device` where they take at most half of its free memory, else as they are.

    On the CPU that is the memory map, which all workers of a node share.
    """
    if torch.device(device).type == "cuda" and images.nbytes > RESIDENT_FRACTION * torch.cuda.mem_get_info(device)[0]:
        return images
    return images.to(device)
