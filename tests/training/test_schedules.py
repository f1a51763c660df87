import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnscan.training.schedules import schedule

PEAK = 0.4


def rates(options: dict[str, Any], epochs: int, steps_per_epoch: int) -> list[float]:
    rate = schedule({"learning_rate": PEAK, "schedule": options}, epochs=epochs, steps_per_epoch=steps_per_epoch)
    return [rate(step) for step in range(epochs * steps_per_epoch)]


def torch_rates(make: Any, steps: int, every: int = 1) -> list[float]:
    """Return what a scheduler of torch gives at each step; it is stepped after `every` of them."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=PEAK)
    scheduler, found = make(optimizer), []
    for step in range(1, steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step % every == 0 and step < steps:
            scheduler.step()
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"name": "step", "every": 2, "factor": 0.3},
        {"name": "cosine", "final_fraction": 0.0},
        {"name": "one_cycle", "warmup_fraction": 0.3, "initial_fraction": 0.04, "final_fraction": 1e-4},
    ],
    ids=lambda options: options["name"],
)
def test_a_schedule_of_no_epochs_is_that_of_one(options: dict[str, Any]) -> None:
    none = schedule({"learning_rate": PEAK, "schedule": options}, epochs=0, steps_per_epoch=4)
    assert [none(step) for step in range(4)] == rates(options, 1, 4)


def test_constant() -> None:
    assert rates({"name": "constant"}, 2, 3) == [PEAK] * 6


def test_step_equals_torchs() -> None:
    found = rates({"name": "step", "every": 2, "factor": 0.3}, 7, 3)
    assert found == pytest.approx(
        torch_rates(lambda one: torch.optim.lr_scheduler.StepLR(one, step_size=2, gamma=0.3), 21, every=3)
    )


@pytest.mark.parametrize("final_fraction", [0.0, 0.1])
def test_cosine_equals_torchs(final_fraction: float) -> None:
    found = rates({"name": "cosine", "final_fraction": final_fraction}, 5, 3)
    assert found == pytest.approx(
        torch_rates(
            lambda one: torch.optim.lr_scheduler.CosineAnnealingLR(one, T_max=5, eta_min=final_fraction * PEAK),
            15,
            every=3,
        )
    )


@pytest.mark.parametrize("warmup_fraction", [0.3, 0.5])
def test_one_cycle_equals_torchs(warmup_fraction: float) -> None:
    options = {
        "name": "one_cycle",
        "warmup_fraction": warmup_fraction,
        "initial_fraction": 0.04,
        "final_fraction": 1e-4,
    }
    found = rates(options, 4, 5)
    expected = torch_rates(
        lambda one: torch.optim.lr_scheduler.OneCycleLR(
            one,
            max_lr=PEAK,
            total_steps=20,
            pct_start=warmup_fraction,
            div_factor=1 / 0.04,
            final_div_factor=0.04 / 1e-4,
            cycle_momentum=False,
        ),
        20,
    )
    assert found == pytest.approx(expected, rel=1e-9)


def test_one_cycle_begins_peaks_and_ends_where_it_says() -> None:
    options = {"name": "one_cycle", "warmup_fraction": 0.3, "initial_fraction": 0.04, "final_fraction": 1e-4}
    found = rates(options, 10, 10)
    assert found[0] == pytest.approx(0.04 * PEAK)
    assert found[29] == max(found) == pytest.approx(PEAK)
    assert found[-1] == pytest.approx(1e-4 * PEAK)


@given(
    name=st.sampled_from(["constant", "step", "cosine", "one_cycle"]),
    epochs=st.integers(1, 5),
    steps_per_epoch=st.integers(1, 6),
    warmup_fraction=st.floats(0, 1),
    beyond=st.integers(0, 20),
)
def test_rates_stay_within_bounds_and_beyond_the_end_stay_as_they_were(
    name: str, epochs: int, steps_per_epoch: int, warmup_fraction: float, beyond: int
) -> None:
    options = {"name": name, "every": 2, "factor": 0.5, "final_fraction": 0.01}
    options |= {"warmup_fraction": warmup_fraction, "initial_fraction": 0.04}
    rate = schedule({"learning_rate": PEAK, "schedule": options}, epochs=epochs, steps_per_epoch=steps_per_epoch)
    last = epochs * steps_per_epoch - 1
    assert all(0 < rate(step) <= PEAK * (1 + 1e-12) and math.isfinite(rate(step)) for step in range(last + 1))
    assert rate(last + beyond) == rate(last)
