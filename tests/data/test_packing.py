import torch
from hypothesis import given
from hypothesis import strategies as st

from nnscan.data.packing import pack, several, stored_shape, unpack

shapes = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4).map(tuple)


@given(shapes=shapes, count=st.integers(1, 3))
def test_what_is_packed_comes_apart_again(shapes: tuple[tuple[int, ...], ...], count: int) -> None:
    inputs = [torch.randn(count, *shape) for shape in shapes]
    packed = pack(inputs)
    assert packed.shape == (count, *stored_shape(shapes))
    again = unpack(packed, several(shapes))
    assert all(torch.equal(one, other) for one, other in zip(again, inputs, strict=True))
    assert all(one.untyped_storage().data_ptr() == packed.untyped_storage().data_ptr() for one in again)


def test_bytes_become_fractions_of_white() -> None:
    torch.testing.assert_close(pack([torch.tensor([[255], [51]], dtype=torch.uint8)]), torch.tensor([[1.0], [0.2]]))


def test_one_input_keeps_its_shape() -> None:
    assert stored_shape((3, 8, 8)) == (3, 8, 8)
    assert several((3, 8, 8)) == ()
