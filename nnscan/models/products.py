"""Products of matrices on the CPU, by oneDNN where that is faster.

torch multiplies float32 by MKL, which on AMD's processors leaves half of their vector units idle (Zen 5, one thread:
111 GFLOP/s, oneDNN 245). Where oneDNN is missing, and for other types, torch's own products are taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST = 2**20
"""Multiplications in a product from which on oneDNN is faster, of which a call takes 10 us more."""


def linear_each(inputs: Tensor, weight: Tensor, bias: Tensor, out: Tensor) -> Tensor:
    """Return `out`, (k, n, o): inputs (k, n, i) times the transposes of weight (k, o, i), with bias (k, o) added."""
    if not by_onednn(inputs, weight.mT):
        return torch.baddbmm(bias[:, None], inputs, weight.mT, out=out)
    for place, own, matrix, more in zip(out, inputs, weight.mT, bias, strict=True):
        place.copy_(onednn(own, matrix, more))
    return out


def products(left: Tensor, right: Tensor, room: Tensor) -> list[Tensor]:
    """Return each of left (k, m, c) times that of right (k, c, n), in `room` or in memory of their own."""
    if by_onednn(left, right):
        return list(map(onednn, left, right))
    return list(torch.bmm(left, right, out=room))


def add_products(left: Tensor, right: Tensor, sums: Tensor) -> None:
    """Add each of left (k, m, c) times that of right (k, c, n) to `sums`, (m, n)."""
    if by_onednn(left, right):
        for one in map(onednn, left, right):
            sums.add_(one)
    else:
        for one, other in zip(left, right, strict=True):
            sums.addmm_(one, other)


def multiply_each(left: Tensor, right: Tensor, out: Tensor) -> Tensor:
    """Return `out`, (k, m, n): each of left (k, m, c) times that of right (k, c, n)."""
    if not by_onednn(left, right):
        return torch.bmm(left, right, out=out)
    _sized(out, left, right)
    for one, other, place in zip(left, right, out, strict=True):
        place.copy_(onednn(one, other))
    return out


def multiply_and_add(left: Tensor, right: Tensor, added: Tensor, out: Tensor) -> Tensor:
    """Return `out` like `multiply_each`, with `added`, (k, m, 1), added."""
    if not by_onednn(left, right):
        return torch.baddbmm(added, left, right, out=out)
    _sized(out, left, right)
    for one, other, more, place in zip(left, right, added, out, strict=True):
        torch.add(onednn(one, other), more, out=place)
    return out


def by_onednn(left: Tensor, right: Tensor) -> bool:
    """Return whether a product is large enough for oneDNN, and of a kind that it takes quickly.

    Of matrices left (..., m, c) and right (..., c, n): both alone, or a row of pairs.
    """
    rows, summed = left.shape[-2:]
    if rows * summed * right.shape[-1] < SMALLEST or left.dtype is not torch.float32 or left.device.type != "cpu":
        return False
    return _AVAILABLE and _is_dense(left) and _is_dense(right)


def _is_dense(matrices: Tensor) -> bool:
    """Of a matrix that is a part of a wider one oneDNN takes a hundred times as long."""
    rows, columns = matrices.shape[-2:]
    return matrices.stride()[-2:] in ((columns, 1), (1, rows))


def _sized(out: Tensor, left: Tensor, right: Tensor) -> None:
    if not out.numel():
        out.resize_(*left.shape[:2], right.shape[2])


def onednn(left: Tensor, right: Tensor, added: Tensor | None = None) -> Tensor:
    """Return left (m, c) times right (c, n), with `added`, (n,), added to each row; for what `by_onednn` is true of."""
    # A linear layer of torch's compiler, not public: test_products.py says that it does what it is taken for.
    return torch.ops.mkldnn._linear_pointwise(left, right.mT, added, "none", [], "")  # type: ignore[no-any-return]


_AVAILABLE = bool(torch.backends.mkldnn.is_available()) and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
