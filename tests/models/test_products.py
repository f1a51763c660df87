"""Products of matrices, by oneDNN or by torch: the same, whatever lies how."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nnscan.models import products
from nnscan.models.products import add_products, by_onednn, multiply_and_add, multiply_each

torch.set_num_threads(1)

LARGE = (2, 96, 128, 160)  # networks, rows, what is summed over, columns
SMALL = (3, 4, 5, 6)

sizes = pytest.mark.parametrize("size", [LARGE, SMALL], ids=["large", "small"])
types = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
laid = pytest.mark.parametrize("laid", ["contiguous", "transposed", "part"])


def matrices(networks: int, rows: int, columns: int, laid: str, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(networks, rows, columns, generator=generator, dtype=torch.float64).to(dtype)
    if laid == "transposed":
        return values.mT.contiguous().mT
    return torch.cat([values, values], -1)[..., :columns] if laid == "part" else values


@sizes
@types
@laid
def test_products_are_those_of_numbers(size: tuple[int, ...], dtype: torch.dtype, laid: str) -> None:
    networks, rows, summed, columns = size
    left = matrices(networks, rows, summed, laid, dtype, 0)
    right = matrices(networks, summed, columns, laid, dtype, 1)
    added = matrices(networks, rows, 1, "contiguous", dtype, 2)
    expected = torch.einsum("kmc,kcn->kmn", left.double(), right.double())
    close = {"rtol": 1e-5, "atol": 1e-4} if dtype is torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    wide = torch.zeros(networks, rows, columns + 3, dtype=dtype)
    for out in (left.new_empty(0), wide[..., :columns]):
        torch.testing.assert_close(multiply_each(left, right, out).double(), expected, **close)
        found = multiply_and_add(left, right, added, out)
        torch.testing.assert_close(found.double(), expected + added.double(), **close)
        assert found.data_ptr() == out.data_ptr()
    assert (wide[..., columns:] == 0).all()
    each = products.products(left, right, left.new_empty(networks, rows, columns))
    torch.testing.assert_close(torch.stack(list(each)).double(), expected, **close)
    sums = torch.ones(rows, columns, dtype=dtype)
    add_products(left, right, sums)
    torch.testing.assert_close(sums.double(), 1 + expected.sum(0), **close)


@pytest.mark.skipif(not products._AVAILABLE, reason="this torch has no oneDNN")
def test_onednn_takes_large_products_of_whole_matrices() -> None:
    def taken(size: tuple[int, ...], laid: str, dtype: torch.dtype) -> bool:
        networks, rows, summed, columns = size
        left = matrices(networks, rows, summed, "contiguous", dtype, 0)
        return by_onednn(left, matrices(networks, summed, columns, laid, dtype, 1))

    assert taken(LARGE, "contiguous", torch.float32) and taken(LARGE, "transposed", torch.float32)
    assert not taken(LARGE, "part", torch.float32)
    assert not taken(LARGE, "contiguous", torch.float64)
    assert not taken(SMALL, "contiguous", torch.float32)


def test_networks_apart_have_products_apart() -> None:
    left, right = (matrices(2, *some, "contiguous", torch.float32, 0) for some in ((96, 128), (128, 160)))
    whole = multiply_each(left, right, left.new_empty(0)).clone()
    left[1] = torch.nan
    assert torch.equal(multiply_each(left, right, left.new_empty(0))[0], whole[0])
