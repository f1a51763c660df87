"""Real processes over gloo."""

import on_ranks
import pytest
import torch
from ranks import Ranks


@pytest.mark.parametrize("size", [2, 4])
def test_the_ranks_answer_together(ranks: Ranks, size: int) -> None:
    found = ranks.run(size, "ask")
    for rank, answers in enumerate(found):
        assert answers.pop("share") == [rank * 10 // size, (rank + 1) * 10 // size]
        assert answers == {
            "add": [[size], [sum(range(size))]],
            "add integers": size * 2**40 + sum(range(size)),
            "agree": [False, True, True],
            "soon": [False, True, False, True, True],
            "stack": [[one, 7] for one in range(size)],
            "gather": [[float(one)] * 2 for one in range(size) for _ in range(one)],
            "gather nothing": [0, 3],
            "tell": ["of 0", ""],
        }


@pytest.mark.parametrize("count", [100, 10_000], ids=["few", "many"])
def test_every_rank_gets_the_same_bits_of_a_sum(ranks: Ranks, count: int) -> None:
    first, *others = ranks.run(4, "sum_numbers", count=count)
    assert others == [first] * 3
    expected = sum(on_ranks.numbers(rank, count).double() for rank in range(4))
    torch.testing.assert_close(torch.tensor(first).double(), expected, rtol=1e-6, atol=1e-3)


def test_a_backward_pass_leaves_the_mean_gradient_in_place_and_zero_where_no_rank_used_a_parameter(
    ranks: Ranks,
) -> None:
    for found in ranks.run(2, "differentiate"):
        # Rank 0 fed 2 to "b", rank 1 fed 3 to "a".
        assert found == {"gradients": [[1.5, 1.0, 0.0]] * 3, "in place": True}
