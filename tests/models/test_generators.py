from __future__ import annotations

import pytest
import torch

from nnscan.models import generators
from nnscan.models.generators import seed_torch


@pytest.mark.parametrize("others", [False, True], ids=["the CPU alone", "other devices"])
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_what_is_drawn_is_what_torch_draws_after_its_own_seeding(
    seed: int, others: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generators, "_has_other_devices", lambda: others)
    seed_torch(seed)
    found = torch.rand(5), torch.initial_seed()
    torch.manual_seed(seed)
    assert torch.equal(found[0], torch.rand(5))
    assert found[1] == torch.initial_seed()


def test_nothing_is_kept_of_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generators, "_has_other_devices", lambda: False)
    before = len(torch.cuda._queued_calls)
    for seed in range(50):
        seed_torch(seed)
    assert len(torch.cuda._queued_calls) == before
