import torch
from hypothesis import given
from hypothesis import strategies as st

from nnscan.models.outputs import probabilities


@given(
    rows=st.lists(st.lists(st.floats(-30, 30, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    loss=st.sampled_from(["cross_entropy", "mse"]),
)
def test_probabilities_sum_to_one_and_keep_the_largest(rows: list[list[float]], loss: str) -> None:
    outputs = torch.tensor(rows)
    found = probabilities(outputs, loss)
    torch.testing.assert_close(found.sum(1), torch.ones(len(rows)))
    assert (found >= 0).all()
    assert (found.gather(1, outputs.argmax(1, keepdim=True))[:, 0] == found.max(1).values).all()


def test_outputs_of_mse_are_taken_as_probabilities() -> None:
    found = probabilities(torch.tensor([[0.6, 0.2, -0.1]]), "mse")
    torch.testing.assert_close(found, torch.tensor([[0.75, 0.25, 0.0]]))
