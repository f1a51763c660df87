from __future__ import annotations

import pytest

from nnscan.launchers.forked.gpus import room, share, visible

CASES = {
    "one each": (1.0, 2, ["0", "1"]),
    "two each, one is left over": (2.0, 5, ["0,1", "2,3"]),
    "two share one": (0.5, 2, ["0", "0", "1", "1"]),
    "ten share one": (0.1, 1, ["0"] * 10),
    "three share one, though a third is not exact": (0.3333, 1, ["0"] * 3),
    "no room for two": (0.6, 2, ["0", "1"]),
    "too few": (4.0, 3, []),
}


@pytest.mark.parametrize(("each", "count", "shares"), CASES.values(), ids=CASES)
def test_each_worker_sees_its_own_gpus(each: float, count: int, shares: list[str]) -> None:
    assert room(each, count) == len(shares)
    gpus = [str(number) for number in range(count)]
    assert [share(place, each, gpus) for place in range(len(shares))] == shares


def test_without_gpus_nothing_is_said_of_them() -> None:
    assert share(0, 0.0, []) == ""


@pytest.mark.parametrize(
    ("named", "found"), [(None, ["0", "1"]), ("3,5", ["3", "5"]), ("GPU-1f,GPU-2e", ["GPU-1f", "GPU-2e"])]
)
def test_gpus_keep_the_names_that_a_scheduler_gave(
    monkeypatch: pytest.MonkeyPatch, named: str | None, found: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible(2) == found
