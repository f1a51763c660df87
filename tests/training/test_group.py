import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nnscan.training.group import ALONE, share


@given(st.integers(1, 64), st.integers(0, 10_000))
def test_shares_hold_every_example_once_in_order_and_differ_by_one_at_most(size: int, count: int) -> None:
    shares = [share(rank, size, count) for rank in range(size)]
    assert [example for part in shares for example in range(count)[part]] == list(range(count))
    lengths = {part.stop - part.start for part in shares}
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("flag", [True, False])
def test_one_process_answers_for_itself_at_once(flag: bool) -> None:
    assert (ALONE.rank, ALONE.size) == (0, 1)
    assert [ALONE.agree(flag), ALONE.soon(flag)] == [flag, flag]
    values, model = torch.arange(3), nn.Linear(2, 2)
    assert ALONE.add(values) is values
    assert ALONE.gather(values) is values
    assert torch.equal(ALONE.stack(values), values[None])
    assert ALONE.tell(b"word") == b"word"
    assert ALONE.parallel(model) is model
    assert ALONE.share(7) == slice(0, 7)
    ALONE.close()
