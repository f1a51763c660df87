"""Pairs of MNIST's digits: is the first one greater? Every replicate is another draw.

As `generate_pair_sets` of the EPFL course EE-559, "Deep learning", mini-project 1 (2020) makes them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nnscan.errors import DataError

CLASSES = ("greater", "less or equal")
"""How the first digit compares with the second; class 1 is `first <= second`."""


def draw(digits: tuple[Tensor, Tensor], count: int, generator: torch.Generator, option: str) -> tuple[Tensor, Tensor]:
    """Return inputs and targets of `count` pairs out of `digits`.

    Parameters
    ----------
    digits : tuple of two Tensors
        Images (N, 1, 28, 28) uint8, and which digits they are, (N,) int64.
    count : int
        No digit is in two pairs, so at most N / 2.
    generator : torch.Generator
        Gives as many numbers whatever `count` is: with more pairs the first ones stay.
    option : str
        That `count` is the value of, for the message.

    Returns
    -------
    inputs : Tensor of shape (count, 2, 14, 14), float32
        Both images, means of 2x2 pixels, from 0 to 255.
    targets : Tensor of shape (count, 3), int64
        The class, and the two digits.

    Raises
    ------
    DataError
        Where there are too few digits.
    """
    images, labels = digits
    if 2 * count > len(labels):
        raise DataError(
            f"{option} = {count} needs {2 * count} digits, for none is in two pairs; there are {len(labels)}."
            f" Accepted: at most {len(labels) // 2}."
        )
    chosen = torch.randperm(len(labels), generator=generator)[: 2 * count]
    pooled = functional.avg_pool2d(images[chosen].float(), 2)
    both = labels[chosen].view(count, 2)
    targets = torch.cat([(both[:, :1] <= both[:, 1:]).long(), both], 1)
    return pooled.view(count, 2, *pooled.shape[2:]), targets
